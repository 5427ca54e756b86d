// The servo process' side of a run: shared memory in, step(), shared memory out.
#pragma once

#include "shared_run.hpp"
#include "step.hpp"

namespace poco {

class Servo {
 public:
  // `run` must outlive the servo. The supervisor counts as lost when its heartbeat is older than
  // `supervisor_timeout_s`; the motion is finished `orphan_hold_s` later.
  Servo(SharedRun& run, const Limits& limits, double supervisor_timeout_s, double orphan_hold_s) noexcept;

  const Command& tick(const ArmState& state) noexcept;
  void sent() noexcept;
  void arm_failed() noexcept;
  void reanchor() noexcept;

  const Memory& memory() const noexcept { return memory_; }

 private:
  Request request(int64_t now_ns) noexcept;
  void publish() noexcept;

  SharedRun& run_;
  Limits limits_;
  int64_t supervisor_timeout_ns_, orphan_hold_ns_;
  Memory memory_;
  ChunkSpline newest_{};
  uint64_t newest_number_ = 0;
  Tick record_{};
  int64_t orphaned_ns_ = 0;
};

int64_t monotonic_ns() noexcept;

}  // namespace poco
