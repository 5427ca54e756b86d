// step() and its memory in Python.
#include <nanobind/stl/array.h>

#include <optional>

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

// The arm takes `q` and reports it as measured and as desired motion, with the backward differences it sees.
void follow_perfectly(const Joints& q, ArmState& arm) noexcept {
  ++arm.tick;
  for (int j = 0; j < kJoints; ++j) {
    const double dq = (q[j] - arm.q_d[j]) * kTicksPerS;
    arm.ddq_d[j] = (dq - arm.dq_d[j]) * kTicksPerS;
    arm.dq[j] = arm.dq_d[j] = dq;
  }
  arm.q = arm.q_d = q;
}

// Runs step() `ticks` times on an arm that follows perfectly; writes each command and what each call took.
void follow(nb::handle state, nb::handle newest, int request, nb::handle limits, Memory& memory, nb::handle commands,
            nb::handle nanoseconds, size_t ticks, int64_t recoveries) {
  const RecordView<ArmState> arm(state, "ARM_STATE", true);
  const RecordView<Limits> limits_view(limits, "LIMITS", false);
  const RecordView<Command> out(commands, "COMMAND", true, ticks);
  const RecordView<int64_t> spent(nanoseconds, "int64", true, ticks);
  std::optional<RecordView<ChunkSpline>> chunk;
  if (!newest.is_none()) chunk.emplace(newest, "CHUNK_SPLINE", false);
  const Request asked = as_request(request);
  for (size_t k = 0; k < ticks; ++k) {
    const int64_t before_ns = monotonic_ns();
    (&*out)[k] = step(*arm, chunk ? &**chunk : nullptr, asked, recoveries, *limits_view, memory);
    (&*spent)[k] = monotonic_ns() - before_ns;
    follow_perfectly((&*out)[k].q, *arm);
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
      .def("latch", [](Memory& memory, int trouble) { latch_outside_of_step(memory, static_cast<Trouble>(trouble)); })
      .def("hold_anew", &hold_anew)
      .def("reanchor", [](Memory& memory) { reanchor(memory); });
  module.def("step", &step_records, nb::arg("state"), nb::arg("newest").none(), nb::arg("request"), nb::arg("limits"),
             nb::arg("memory"), nb::arg("command"), nb::arg("recoveries") = 0);
  module.def("follow", &follow, nb::arg("state"), nb::arg("newest").none(), nb::arg("request"), nb::arg("limits"),
             nb::arg("memory"), nb::arg("commands"), nb::arg("nanoseconds"), nb::arg("ticks"),
             nb::arg("recoveries") = 0);
  module.def("tip", &tip_as_tuple, nb::arg("q"), nb::arg("limits"));
}

}  // namespace poco
