// Notices an arm that falls silent while the servo is blocked in the vendor's library, which waits for 1 s.
#pragma once

#include <atomic>
#include <thread>

#include "shared_run.hpp"

namespace poco {

// One thread without Python. due() and heard() belong to the servo, never wait and never allocate.
class Watchdog {
 public:
  explicit Watchdog(SharedRun& run) noexcept : run_(run) {}
  ~Watchdog();

  // Starts the thread, which inherits priority and affinity of the caller. Throws std::system_error.
  void start(double silence_s);

  // A command has left: the next state is due.
  void due(int64_t now_ns) noexcept { due_since_ns_.store(now_ns); }
  // A state has arrived or none is due any more; true if the silence before it has been announced.
  bool heard() noexcept { return due_since_ns_.exchange(kNothingDue) == kAnnounced; }
  // True while the thread publishes the fault; the servo then leaves the mailbox of states to it.
  bool publishing() const noexcept { return publishing_.load(); }

 private:
  static constexpr int64_t kNothingDue = 0, kAnnounced = -1, kSlices = 4;

  void watch() noexcept;
  void announce(int64_t since_ns) noexcept;

  SharedRun& run_;
  int64_t silence_ns_ = 0;
  std::atomic<int64_t> due_since_ns_{kNothingDue};
  std::atomic<bool> publishing_{false}, stop_{false};
  std::thread thread_;
};

}  // namespace poco
