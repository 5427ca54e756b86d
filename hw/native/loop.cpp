// A 1 kHz loop that owns its wait: what benchmark and doctor measure the computer with.
#include <time.h>

#include <cerrno>

#include "bindings.hpp"
#include "record_view.hpp"
#include "servo.hpp"
#include "step.hpp"

namespace nb = nanobind;

namespace poco {
namespace {

constexpr int64_t kPeriodNs = 1'000'000;

void sleep_until(int64_t due_ns) noexcept {
  const timespec due{due_ns / 1'000'000'000, due_ns % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr) == EINTR) {
  }
}

// Wakes every millisecond, runs step() on an arm that follows perfectly, and writes how late it woke and how long
// step() took. A period that has passed is skipped, never caught up.
void time_loop(nb::handle state, nb::handle newest, nb::handle limits, Memory& memory, nb::handle late_ns,
               nb::handle step_ns, size_t ticks) {
  ArmState arm = *RecordView<ArmState>(state, "ARM_STATE", false);
  const RecordView<ChunkSpline> chunk(newest, "CHUNK_SPLINE", false);
  const RecordView<Limits> limits_view(limits, "LIMITS", false);
  const RecordView<int64_t> late(late_ns, "int64", true, ticks), spent(step_ns, "int64", true, ticks);
  const nb::gil_scoped_release release;
  int64_t due_ns = monotonic_ns() + kPeriodNs;
  for (size_t k = 0; k < ticks; ++k) {
    sleep_until(due_ns);
    const int64_t woken_ns = monotonic_ns();
    const Command command = step(arm, &*chunk, Request::armed, 0, *limits_view, memory);
    (&*spent)[k] = monotonic_ns() - woken_ns;
    (&*late)[k] = woken_ns - due_ns;
    ++arm.tick;
    arm.q = arm.q_d = command.q;
    arm.dq = arm.dq_d = command.dq;
    arm.ddq_d = command.ddq;
    due_ns += kPeriodNs * (1 + (monotonic_ns() - due_ns) / kPeriodNs);
  }
}

}  // namespace

void bind_loop(nb::module_& module) {
  module.def("time_loop", &time_loop, nb::arg("state"), nb::arg("newest"), nb::arg("limits"), nb::arg("memory"),
             nb::arg("late_ns"), nb::arg("step_ns"), nb::arg("ticks"));
}

}  // namespace poco
