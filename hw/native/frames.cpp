// Newest camera frame in shared memory: the mailbox of mailbox.hpp over memory that Python maps.
#include "bindings.hpp"
#include "mailbox.hpp"
#include "record_view.hpp"

namespace nb = nanobind;

namespace poco {
namespace {

constexpr int kFrameSlots = 4;

// poco.frames.FRAME
struct Frame {
  int64_t tick;
  int64_t captured_ns;
  std::array<uint8_t, 224 * 224 * 3> pixels;
};

using FrameMailbox = Mailbox<Frame, kFrameSlots>;

void publish_frame(nb::handle mailbox, nb::handle frame) {
  const RecordView<FrameMailbox> shared(mailbox, "frame mailbox", true);
  const RecordView<Frame> own(frame, "FRAME", false);
  shared->publish(*own, [](const Frame& from, Frame& slot) noexcept { copy_words_in(&from, &slot, sizeof from); });
}

uint64_t read_frame(nb::handle mailbox, nb::handle frame, uint64_t known) {
  const RecordView<FrameMailbox> shared(mailbox, "frame mailbox", true);
  const RecordView<Frame> own(frame, "FRAME", true);
  shared->read(*own, known, [](const Frame& slot, Frame& to) noexcept { copy_words_out(&slot, &to, sizeof to); });
  return known;
}

}  // namespace

void bind_frames(nb::module_& module) {
  module.attr("FRAME_MAILBOX_BYTES") = sizeof(FrameMailbox);
  module.def("publish_frame", &publish_frame, nb::arg("mailbox"), nb::arg("frame"));
  module.def("read_frame", &read_frame, nb::arg("mailbox"), nb::arg("frame"), nb::arg("known"));
}

}  // namespace poco
