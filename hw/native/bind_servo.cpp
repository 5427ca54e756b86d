// The servo in Python: what a 1 kHz loop around the vendor's client library calls.
#include "bindings.hpp"
#include "record_view.hpp"
#include "servo.hpp"

namespace nb = nanobind;

namespace poco {
namespace {

// Lists of floats, as the vendor's library returns them, and any other sequence of numbers.
template <size_t kCount>
void read_doubles(nb::handle sequence, std::array<double, kCount>& out, const char* name) {
  const nb::object fast = nb::steal(PySequence_Fast(sequence.ptr(), name));
  if (!fast.is_valid()) throw nb::python_error();
  if (PySequence_Fast_GET_SIZE(fast.ptr()) != static_cast<Py_ssize_t>(kCount)) {
    PyErr_Format(PyExc_ValueError, "%s must hold %zu numbers, got %zd", name, kCount,
                 PySequence_Fast_GET_SIZE(fast.ptr()));
    throw nb::python_error();
  }
  PyObject** items = PySequence_Fast_ITEMS(fast.ptr());
  for (size_t i = 0; i < kCount; ++i) out[i] = PyFloat_AsDouble(items[i]);
  if (PyErr_Occurred() != nullptr) throw nb::python_error();
}

nb::list as_list(const Joints& values) {
  PyObject* list = PyList_New(kJoints);
  for (int j = 0; j < kJoints; ++j) PyList_SET_ITEM(list, j, PyFloat_FromDouble(values[j]));
  return nb::steal<nb::list>(list);
}

nb::list tick(Servo& servo, int64_t tick, nb::handle q, nb::handle dq, nb::handle tau, nb::handle tau_ext,
              nb::handle q_d, nb::handle dq_d, nb::handle ddq_d, nb::handle O_T_EE, int robot_mode, int errors) {
  ArmState state{};
  state.tick = tick;
  state.received_ns = servo.received();
  read_doubles(q, state.q, "q");
  read_doubles(dq, state.dq, "dq");
  read_doubles(tau, state.tau, "tau");
  read_doubles(tau_ext, state.tau_ext, "tau_ext");
  read_doubles(q_d, state.q_d, "q_d");
  read_doubles(dq_d, state.dq_d, "dq_d");
  read_doubles(ddq_d, state.ddq_d, "ddq_d");
  read_doubles(O_T_EE, state.O_T_EE, "O_T_EE");
  state.robot_mode = robot_mode;
  state.errors = errors;
  return as_list(servo.tick(state).q);
}

nb::list torque(Servo& servo, nb::handle tau_d, nb::handle coriolis, nb::handle mass, nb::handle jacobian) {
  Dynamics dynamics;
  read_doubles(tau_d, dynamics.tau_d, "tau_d");
  read_doubles(coriolis, dynamics.coriolis, "coriolis");
  read_doubles(mass, dynamics.mass, "mass");
  read_doubles(jacobian, dynamics.jacobian, "jacobian");
  return as_list(servo.torque(dynamics));
}

// The law by itself, for tests: no shared memory, no plan.
nb::list law_torque(nb::handle law, nb::handle state, nb::handle tau_d, nb::handle coriolis, nb::handle mass,
                    nb::handle jacobian, nb::handle command, nb::handle limits, nb::handle taken) {
  Dynamics dynamics;
  Joints last;
  read_doubles(tau_d, dynamics.tau_d, "tau_d");
  read_doubles(coriolis, dynamics.coriolis, "coriolis");
  read_doubles(mass, dynamics.mass, "mass");
  read_doubles(jacobian, dynamics.jacobian, "jacobian");
  read_doubles(taken, last, "taken");
  return as_list(impedance_torque(*RecordView<Law>(law, "LAW", false), *RecordView<ArmState>(state, "ARM_STATE", false),
                                  dynamics, *RecordView<Command>(command, "COMMAND", false),
                                  *RecordView<Limits>(limits, "LIMITS", false), last));
}

// The arm's own law, where nothing else is asked for.
Law law_of(nb::handle law) { return law.is_none() ? Law{} : *RecordView<Law>(law, "LAW", false); }

}  // namespace

void bind_servo(nb::module_& module) {
  nb::class_<Servo>(module, "Servo")
      .def(
          "__init__",
          [](Servo* self, SharedRun& run, nb::handle limits, double supervisor_timeout_s, double orphan_hold_s,
             nb::handle law, nb::handle guiding) {
            new (self) Servo(run, *RecordView<Limits>(limits, "LIMITS", false), law_of(law), law_of(guiding),
                             supervisor_timeout_s, orphan_hold_s);
          },
          nb::keep_alive<1, 2>(), nb::arg("run"), nb::arg("limits"), nb::arg("supervisor_timeout_s") = 2.0,
          nb::arg("orphan_hold_s") = 60.0, nb::arg("law").none() = nb::none(), nb::arg("guiding").none() = nb::none())
      .def("tick", &tick, nb::arg("tick"), nb::arg("q"), nb::arg("dq"), nb::arg("tau"), nb::arg("tau_ext"),
           nb::arg("q_d"), nb::arg("dq_d"), nb::arg("ddq_d"), nb::arg("O_T_EE"), nb::arg("robot_mode"),
           nb::arg("errors"))
      .def("torque", &torque, nb::arg("tau_d"), nb::arg("coriolis"), nb::arg("mass"), nb::arg("jacobian"))
      .def("sent", &Servo::sent)
      .def("watch", &Servo::watch, nb::arg("silence_s"))
      .def(
          "arm_failed", [](Servo& servo, int trouble) { servo.arm_failed(static_cast<Trouble>(trouble)); },
          nb::arg("trouble") = static_cast<int>(Trouble::arm_error))
      .def("reanchor", &Servo::reanchor)
      .def_prop_ro("finished", [](const Servo& servo) { return servo.memory().command.finished != 0; })
      .def_prop_ro("mode", [](const Servo& servo) { return servo.memory().command.mode; })
      .def_prop_ro("fault", [](const Servo& servo) { return static_cast<int>(servo.memory().fault); });
  module.def("impedance_torque", &law_torque, nb::arg("law"), nb::arg("state"), nb::arg("tau_d"), nb::arg("coriolis"),
             nb::arg("mass"), nb::arg("jacobian"), nb::arg("command"), nb::arg("limits"), nb::arg("taken"));
}

}  // namespace poco
