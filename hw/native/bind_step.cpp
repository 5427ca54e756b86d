// step() and its memory in Python.
#include <nanobind/stl/array.h>

#include <chrono>

#include "bindings.hpp"
#include "record_view.hpp"
#include "servo.hpp"
#include "step.hpp"

namespace nb = nanobind;

namespace poco {
namespace {

Request as_request(int request) {
  if (request < 0 || request > static_cast<int>(Request::orphaned)) {
    throw nb::value_error("request must be one of poco.trouble.Request (0 to 3)");
  }
  return static_cast<Request>(request);
}

void step_records(nb::handle state, nb::handle newest, int request, nb::handle limits, Memory& memory,
                  nb::handle command, int64_t recoveries) {
  const RecordView<ArmState> state_view(state, "ARM_STATE", false);
  const RecordView<Limits> limits_view(limits, "LIMITS", false);
  const RecordView<Command> command_view(command, "COMMAND", true);
  if (newest.is_none()) {
    *command_view = step(*state_view, nullptr, as_request(request), recoveries, *limits_view, memory);
  } else {
    const RecordView<ChunkSpline> newest_view(newest, "CHUNK_SPLINE", false);
    *command_view = step(*state_view, &*newest_view, as_request(request), recoveries, *limits_view, memory);
  }
}

// Runs step() once per element of `nanoseconds` with an arm that follows perfectly, and writes what each call took.
void time_steps(nb::handle state, nb::handle newest, nb::handle limits, Memory& memory, nb::handle nanoseconds,
                size_t ticks) {
  ArmState arm = *RecordView<ArmState>(state, "ARM_STATE", false);
  const RecordView<ChunkSpline> chunk(newest, "CHUNK_SPLINE", false);
  const RecordView<Limits> limits_view(limits, "LIMITS", false);
  const RecordView<int64_t> out(nanoseconds, "int64", true, ticks);
  for (size_t k = 0; k < ticks; ++k) {
    const int64_t before_ns = monotonic_ns();
    const Command command = step(arm, &*chunk, Request::armed, 0, *limits_view, memory);
    (&*out)[k] = monotonic_ns() - before_ns;
    ++arm.tick;
    arm.q = arm.q_d = command.q;
    arm.dq = arm.dq_d = command.dq;
    arm.ddq_d = command.ddq;
  }
}

nb::tuple tip_as_tuple(const Joints& q, nb::handle limits) {
  const Tip tip = tip_of(q, RecordView<Limits>(limits, "LIMITS", false)->flange_t_tip);
  return nb::make_tuple(tip.position, tip.columns);
}

}  // namespace

void bind_step(nb::module_& module) {
  nb::class_<Memory>(module, "Memory")
      .def(nb::init<>())
      .def("copy", [](const Memory& memory) { return memory; })
      .def_prop_ro("tick", [](const Memory& memory) { return memory.tick; })
      .def_prop_ro("mode", [](const Memory& memory) { return memory.command.mode; })
      .def_prop_ro("fault", [](const Memory& memory) { return static_cast<int>(memory.fault); })
      .def_prop_ro("q", [](const Memory& memory) { return memory.commanded.q; })
      .def_prop_ro("dq", [](const Memory& memory) { return memory.commanded.dq; })
      .def_prop_ro("ddq", [](const Memory& memory) { return memory.commanded.ddq; })
      .def_prop_ro("seen_chunk_id", [](const Memory& memory) { return memory.seen_id; })
      .def_prop_ro("event_counts", [](const Memory& memory) { return memory.event_counts; })
      .def("reanchor", [](Memory& memory) { reanchor(memory); });
  module.def("step", &step_records, nb::arg("state"), nb::arg("newest").none(), nb::arg("request"), nb::arg("limits"),
             nb::arg("memory"), nb::arg("command"), nb::arg("recoveries") = 0);
  module.def("time_steps", &time_steps, nb::arg("state"), nb::arg("newest"), nb::arg("limits"), nb::arg("memory"),
             nb::arg("nanoseconds"), nb::arg("ticks"));
  module.def("tip", &tip_as_tuple, nb::arg("q"), nb::arg("limits"));
}

}  // namespace poco
