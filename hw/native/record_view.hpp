// numpy record arrays as C++ structs, without copying.
#pragma once

#include <nanobind/nanobind.h>

namespace poco {

// Contiguous memory of one Record (or `count` of them); a TypeError names the record if the size of the array or of its
// elements differs.
template <typename Record>
class RecordView {
 public:
  RecordView(nanobind::handle array, const char* name, bool writable, size_t count = 1) {
    const int flags = writable ? PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS : PyBUF_C_CONTIGUOUS;
    if (PyObject_GetBuffer(array.ptr(), &buffer_, flags) != 0) throw nanobind::python_error();
    const Py_ssize_t bytes = buffer_.len, item_bytes = buffer_.itemsize;
    if (bytes != static_cast<Py_ssize_t>(count * sizeof(Record)) ||
        item_bytes != static_cast<Py_ssize_t>(sizeof(Record))) {
      PyBuffer_Release(&buffer_);
      PyErr_Format(PyExc_TypeError, "expected %zu record(s) of dtype %s (%zu bytes each), got %zd bytes of %zd each",
                   count, name, sizeof(Record), bytes, item_bytes);
      throw nanobind::python_error();
    }
  }
  ~RecordView() { PyBuffer_Release(&buffer_); }
  RecordView(const RecordView&) = delete;
  RecordView& operator=(const RecordView&) = delete;

  Record& operator*() const noexcept { return *static_cast<Record*>(buffer_.buf); }
  Record* operator->() const noexcept { return static_cast<Record*>(buffer_.buf); }

 private:
  Py_buffer buffer_{};
};

}  // namespace poco
