// The shared memory of a run in Python.
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <unistd.h>

#include "bindings.hpp"
#include "record_view.hpp"
#include "shared_run.hpp"

namespace nb = nanobind;

namespace poco {

void bind_shared_run(nb::module_& module) {
  nb::class_<SharedRun>(module, "SharedRun")
      .def(nb::init<const std::string&, bool>(), nb::arg("path"), nb::arg("create"))
      .def("publish_state",
           [](SharedRun& run, nb::handle state) {
             run.publish_state(*RecordView<RobotState>(state, "ROBOT_STATE", false));
           })
      .def("read_state",
           [](const SharedRun& run, nb::handle out, uint64_t known) {
             run.read_state(*RecordView<RobotState>(out, "ROBOT_STATE", true), known);
             return known;
           })
      .def("publish_chunk",
           [](SharedRun& run, nb::handle chunk) {
             run.publish_chunk(*RecordView<ChunkSpline>(chunk, "CHUNK_SPLINE", false));
           })
      .def("read_chunk",
           [](const SharedRun& run, nb::handle out, uint64_t known) {
             run.read_chunk(*RecordView<ChunkSpline>(out, "CHUNK_SPLINE", true), known);
             return known;
           })
      .def("publish_gripper",
           [](SharedRun& run, nb::handle state) {
             run.publish_gripper(*RecordView<GripperState>(state, "GRIPPER_STATE", false));
           })
      .def("read_gripper",
           [](const SharedRun& run, nb::handle out, uint64_t known) {
             run.read_gripper(*RecordView<GripperState>(out, "GRIPPER_STATE", true), known);
             return known;
           })
      .def("push_tick", [](SharedRun& run, nb::handle tick) { run.push_tick(*RecordView<Tick>(tick, "TICK", false)); })
      .def("ticks_waiting", &SharedRun::ticks_waiting)
      .def("drain_ticks",
           [](SharedRun& run, nb::handle out, uint64_t count) {
             return run.drain_ticks(&*RecordView<Tick>(out, "TICK", true, count), count);
           })
      .def("read_control",
           [](SharedRun& run, nb::handle out) {
             copy_words_out(&run.control(), &*RecordView<Control>(out, "CONTROL", true), sizeof(Control));
           })
      .def("set_request", [](SharedRun& run, int64_t request) { run.control().request = request; })
      .def("recover", [](SharedRun& run) { run.control().recoveries.fetch_add(1); })
      .def("beat", [](SharedRun& run, int64_t now_ns) { run.control().supervisor_ns = now_ns; })
      .def("policy_beat", [](SharedRun& run, int64_t now_ns) { run.control().policy_ns = now_ns; })
      .def("silence_announced", &SharedRun::silence_announced)
      .def("lead",
           [](SharedRun& run, int64_t until_tick, double width_m) {
             run.control().led_width = width_m;
             run.control().led_until = until_tick;
           })
      .def("servo_signs",
           [](SharedRun& run, int64_t now_ns, bool finished, const std::array<int64_t, kEventCodes>& event_counts) {
             run.control().servo_pid = getpid();
             for (int code = 0; code < kEventCodes; ++code) run.control().event_counts[code] = event_counts[code];
             run.control().finished = finished;
             run.control().servo_ns = now_ns;
           })
      .def("alarm", &SharedRun::alarm)
      .def("announce", &SharedRun::announce)
      .def("wait_tick", &SharedRun::wait_tick, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace poco
