// Python face of the native core: poco._core. Types and docstrings: src/poco/_core.pyi.
#include <nanobind/nanobind.h>

#include "bindings.hpp"
#include "layouts.hpp"
#include "realtime.hpp"
#include "trouble.hpp"

namespace nb = nanobind;

namespace poco {
namespace {

nb::dict layouts_as_dict() {
  nb::dict records;
  for (const RecordLayout& record : layouts()) {
    nb::dict fields;
    for (const FieldLayout& field : record.fields) fields[field.name] = nb::make_tuple(field.offset, field.bytes);
    nb::dict entry;
    entry["size"] = record.bytes;
    entry["fields"] = fields;
    records[record.name] = entry;
  }
  return records;
}

nb::list mode_table() {
  nb::list rows;
#define X(name, meaning) rows.append(nb::make_tuple(static_cast<int>(Mode::name), #name, meaning));
  POCO_MODES(X)
#undef X
  return rows;
}

nb::list trouble_table() {
  nb::list rows;
#define X(name, grade, meaning, remedy) \
  rows.append(nb::make_tuple(static_cast<int>(Trouble::name), #name, #grade, meaning, remedy));
  POCO_TROUBLES(X)
#undef X
  return rows;
}

nb::list realtime_setup_as_list(int priority, nb::object cpu) {
  nb::list rows;
  for (const RealtimeFact& fact : realtime_setup(priority, cpu.is_none() ? -1 : nb::cast<int>(cpu))) {
    rows.append(nb::make_tuple(fact.what.c_str(), fact.ok, fact.reason.c_str()));
  }
  return rows;
}

}  // namespace
}  // namespace poco

NB_MODULE(_core, module) {
  module.doc() = "Native core of poco: shared memory, real-time set-up, servo step.";
  module.def("layouts", &poco::layouts_as_dict);
  module.def("mode_table", &poco::mode_table);
  module.def("trouble_table", &poco::trouble_table);
  module.def("realtime_setup", &poco::realtime_setup_as_list, nb::arg("priority"), nb::arg("cpu").none());
  poco::bind_step(module);
  poco::bind_shared_run(module);
  poco::bind_servo(module);
  poco::bind_loop(module);
  poco::bind_frames(module);
}
