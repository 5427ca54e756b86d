// The servo process' side of a run: shared memory in, step(), shared memory out.
#pragma once

#include "effort.hpp"
#include "impedance.hpp"
#include "shared_run.hpp"
#include "step.hpp"
#include "watchdog.hpp"

namespace poco {

class Servo {
 public:
  // `run` must outlive the servo. `law` says whether set-points or torques move the arm, `guiding` how torques give way
  // to a hand. The supervisor counts as lost when its heartbeat is older than `supervisor_timeout_s`; the motion is
  // finished `orphan_hold_s` later.
  Servo(SharedRun& run, const Limits& limits, const Law& law, const Law& guiding, double supervisor_timeout_s,
        double orphan_hold_s) noexcept;

  // From now on a state is due `silence_s` after each command; see Watchdog.
  void watch(double silence_s) { watchdog_.start(silence_s); }

  // A state has just arrived: begins the account of this turnaround and returns the time.
  int64_t received() noexcept;
  const Command& tick(const ArmState& state) noexcept;
  // After `tick`: the torque that its command means under the law. What is not finite latches in the next tick.
  const Joints& torque(const Dynamics& dynamics) noexcept;
  void sent() noexcept;
  // Latches what was noticed outside of step(), publishes it and wakes whoever waits for a tick.
  void arm_failed(Trouble trouble) noexcept;
  void reanchor() noexcept;

  const Memory& memory() const noexcept { return memory_; }

 private:
  Request request(int64_t now_ns) noexcept;
  bool may_be_led(int64_t tick) noexcept;
  void publish() noexcept;

  SharedRun& run_;
  Limits limits_;
  Law law_, guiding_;
  Joints torque_{}, taken_{};  // asked for, and taken by the arm, as far as is known
  int64_t supervisor_timeout_ns_, orphan_hold_ns_;
  Memory memory_;
  ChunkSpline newest_{};
  uint64_t newest_number_ = 0;
  Tick record_{};
  Effort before_;
  int64_t orphaned_ns_ = 0;
  Watchdog watchdog_;
};

int64_t monotonic_ns() noexcept;

}  // namespace poco
