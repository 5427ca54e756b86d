// The parts of the Python module.
#pragma once

#include <nanobind/nanobind.h>

namespace poco {

void bind_step(nanobind::module_& module);
void bind_shared_run(nanobind::module_& module);
void bind_servo(nanobind::module_& module);
void bind_loop(nanobind::module_& module);
void bind_frames(nanobind::module_& module);

}  // namespace poco
