// The shared memory of one run: one file, one struct, mapped by every process of the run.
#pragma once

#include <string>

#include "mailbox.hpp"
#include "records.hpp"

namespace poco {

inline constexpr int kStateSlots = 8, kChunkSlots = 4, kGripperSlots = 4, kTickCapacity = 8192;

struct SharedBlock {
  std::atomic<uint64_t> magic;  // written last by the creator
  int64_t version;
  uint64_t layout_hash;
  alignas(64) Control control;
  Mailbox<RobotState, kStateSlots> states;
  Mailbox<ChunkSpline, kChunkSlots> chunks;
  Mailbox<GripperState, kGripperSlots> grippers;
  Ring<Tick, kTickCapacity> ticks;
};

// An announced silence is longer; a sign of life is at most a moment newer than the state it meets.
constexpr int64_t kAnnouncedAheadNs = 1'000'000'000;

class SharedRun {
 public:
  // Creates the file (an existing one is an error) or maps it. Holds a shared lock on it while it lives.
  // Throws std::runtime_error with one sentence.
  SharedRun(const std::string& path, bool create);
  ~SharedRun();
  SharedRun(const SharedRun&) = delete;
  SharedRun& operator=(const SharedRun&) = delete;

  Control& control() noexcept { return block_->control; }
  // True while the policy process has said that it can publish nothing, as it does before it opens another graph.
  bool silence_announced(int64_t now_ns) const noexcept {
    return block_->control.policy_ns.load(std::memory_order_acquire) > now_ns + kAnnouncedAheadNs;
  }

  void publish_state(const RobotState& state) noexcept;
  bool read_state(RobotState& state, uint64_t& known) const noexcept;
  void publish_chunk(const ChunkSpline& chunk) noexcept;
  bool read_chunk(ChunkSpline& chunk, uint64_t& known) const noexcept;
  void publish_gripper(const GripperState& state) noexcept;
  bool read_gripper(GripperState& state, uint64_t& known) const noexcept;
  void push_tick(const Tick& tick) noexcept;
  uint64_t ticks_waiting() const noexcept { return block_->ticks.size(); }
  uint64_t drain_ticks(Tick* out, uint64_t count) noexcept { return block_->ticks.pop(out, count); }

  // Servo: announces `tick` and wakes waiters if one of them waits for it.
  void announce(int64_t tick) noexcept;
  // Servo process: wakes everybody, because a fault may mean that no tick comes any more.
  void alarm() noexcept;
  // Anyone: sleeps until `tick` is announced; false after `timeout_s` or an alarm.
  bool wait_tick(int64_t tick, double timeout_s) noexcept;

 private:
  int file_ = -1;
  SharedBlock* block_ = nullptr;
};

}  // namespace poco
