// The newest frames of one camera in shared memory that Python maps: a mailbox whose records have a size of their own.
#include <cstring>

#include "bindings.hpp"
#include "mailbox.hpp"
#include "record_view.hpp"
#include "records.hpp"

namespace nb = nanobind;

namespace poco {
namespace {

constexpr int kFrameSlots = 4, kReadAttempts = 64;
constexpr uint64_t kRingMagic = 0x3130474e49524d46;  // "FMRING01"

// All zeros but for what `begin_frames` writes is an empty ring; the slots follow, each a number, a head and pixels.
struct alignas(64) RingHead {
  std::atomic<uint64_t> magic, newest;
  int64_t height, width;
};

struct alignas(64) SlotHead {
  std::atomic<uint64_t> number;
  FrameHead head;
};

constexpr size_t padded(size_t pixel_bytes) noexcept { return (pixel_bytes + 63) / 64 * 64; }

constexpr size_t slot_bytes(size_t pixel_bytes) noexcept { return sizeof(SlotHead) + padded(pixel_bytes); }

size_t frame_ring_bytes(size_t height, size_t width) {
  return sizeof(RingHead) + kFrameSlots * slot_bytes(3 * height * width);
}

// Any contiguous buffer of bytes.
class Bytes {
 public:
  Bytes(nb::handle array, bool writable) {
    const int flags = writable ? PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS : PyBUF_C_CONTIGUOUS;
    if (PyObject_GetBuffer(array.ptr(), &buffer_, flags) != 0) throw nb::python_error();
  }
  ~Bytes() { PyBuffer_Release(&buffer_); }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;

  uint8_t* data() const noexcept { return static_cast<uint8_t*>(buffer_.buf); }
  size_t size() const noexcept { return static_cast<size_t>(buffer_.len); }

 private:
  Py_buffer buffer_{};
};

RingHead& ring_of(const Bytes& memory) {
  auto& ring = *reinterpret_cast<RingHead*>(memory.data());
  if (memory.size() < sizeof(RingHead) || ring.magic.load(std::memory_order_acquire) != kRingMagic ||
      memory.size() != frame_ring_bytes(ring.height, ring.width)) {
    throw nb::value_error("not a ring of frames");
  }
  return ring;
}

SlotHead& slot_of(const Bytes& memory, uint64_t number, size_t pixel_bytes) noexcept {
  return *reinterpret_cast<SlotHead*>(memory.data() + sizeof(RingHead) +
                                      number % kFrameSlots * slot_bytes(pixel_bytes));
}

// Whole words are copied word by word, as in the mailbox; what is left over goes through a word of its own.
void pixels_in(const uint8_t* own, uint8_t* shared, size_t bytes) noexcept {
  const size_t whole = bytes / 8 * 8;
  copy_words_in(own, shared, whole);
  uint64_t rest = 0;
  std::memcpy(&rest, own + whole, bytes - whole);
  copy_words_in(&rest, shared + whole, bytes == whole ? 0 : 8);
}

void pixels_out(const uint8_t* shared, uint8_t* own, size_t bytes) noexcept {
  const size_t whole = bytes / 8 * 8;
  copy_words_out(shared, own, whole);
  uint64_t rest = 0;
  copy_words_out(shared + whole, &rest, bytes == whole ? 0 : 8);
  std::memcpy(own + whole, &rest, bytes - whole);
}

void check_pixels(const RingHead& ring, const Bytes& pixels) {
  if (pixels.size() != static_cast<size_t>(3 * ring.height * ring.width)) {
    throw nb::type_error("the pixels are not of the size of the ring's frames");
  }
}

void begin_frames(nb::handle memory, int64_t height, int64_t width) {
  const Bytes shared(memory, true);
  if (shared.size() != frame_ring_bytes(height, width)) throw nb::value_error("memory of another size");
  auto& ring = *reinterpret_cast<RingHead*>(shared.data());
  ring.height = height;
  ring.width = width;
  ring.magic.store(kRingMagic, std::memory_order_release);
}

nb::tuple frame_size(nb::handle memory) {
  const RingHead& ring = ring_of(Bytes(memory, true));
  return nb::make_tuple(ring.height, ring.width);
}

void publish_frame(nb::handle memory, nb::handle head, nb::handle pixels) {
  const Bytes shared(memory, true), image(pixels, false);
  const RecordView<FrameHead> own(head, "FRAME_HEAD", false);
  RingHead& ring = ring_of(shared);
  check_pixels(ring, image);
  const uint64_t number = ring.newest.load(std::memory_order_relaxed) + 1;
  SlotHead& slot = slot_of(shared, number, image.size());
  slot.number.store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  copy_words_in(&*own, &slot.head, sizeof(FrameHead));
  pixels_in(image.data(), reinterpret_cast<uint8_t*>(&slot) + sizeof(SlotHead), image.size());
  slot.number.store(number, std::memory_order_release);
  ring.newest.store(number, std::memory_order_release);
}

uint64_t read_frame(nb::handle memory, nb::handle head, nb::handle pixels, uint64_t known) {
  const Bytes shared(memory, true), image(pixels, true);
  const RecordView<FrameHead> own(head, "FRAME_HEAD", true);
  const RingHead& ring = ring_of(shared);
  check_pixels(ring, image);
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    const uint64_t number = ring.newest.load(std::memory_order_acquire);
    if (number == known) return known;
    const SlotHead& slot = slot_of(shared, number, image.size());
    if (slot.number.load(std::memory_order_acquire) != number) continue;
    copy_words_out(&slot.head, &*own, sizeof(FrameHead));
    pixels_out(reinterpret_cast<const uint8_t*>(&slot) + sizeof(SlotHead), image.data(), image.size());
    std::atomic_thread_fence(std::memory_order_acquire);
    if (slot.number.load(std::memory_order_relaxed) == number) return number;
  }
  return known;
}

}  // namespace

void bind_frames(nb::module_& module) {
  module.def("frame_ring_bytes", &frame_ring_bytes, nb::arg("height"), nb::arg("width"));
  module.def("begin_frames", &begin_frames, nb::arg("memory"), nb::arg("height"), nb::arg("width"));
  module.def("frame_size", &frame_size, nb::arg("memory"));
  module.def("publish_frame", &publish_frame, nb::arg("memory"), nb::arg("head"), nb::arg("pixels"));
  module.def("read_frame", &read_frame, nb::arg("memory"), nb::arg("head"), nb::arg("pixels"), nb::arg("known"));
}

}  // namespace poco
