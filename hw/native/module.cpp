// Python face of the native core: poco._core.
#include <nanobind/nanobind.h>

NB_MODULE(_core, module) { module.doc() = "Native core of poco: shared memory, real-time set-up, servo step."; }
