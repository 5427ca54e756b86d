#include "watchdog.hpp"

#include <time.h>

#include <algorithm>

#include "servo.hpp"
#include "trouble.hpp"

namespace poco {

Watchdog::~Watchdog() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void Watchdog::start(double silence_s) {
  silence_ns_ = static_cast<int64_t>(silence_s * 1e9);
  thread_ = std::thread([this] { watch(); });
}

// Sleeps in slices until the silence is too long. Where it wakes late itself, the whole process stood still (stopped,
// starved) and nothing was heard for that reason: the arm gets its full time again.
void Watchdog::watch() noexcept {
  const int64_t slice_ns = silence_ns_ / kSlices;
  int64_t awake_since_ns = 0;
  while (!stop_) {
    const int64_t since_ns = due_since_ns_, now_ns = monotonic_ns();
    const bool due = since_ns > kNothingDue;
    const int64_t over_ns = (due ? std::max(since_ns, awake_since_ns) : now_ns) + silence_ns_;
    if (now_ns >= over_ns) {
      announce(since_ns);
      continue;
    }
    const int64_t wake_ns = std::min(over_ns, now_ns + slice_ns);
    const timespec until{wake_ns / 1'000'000'000, wake_ns % 1'000'000'000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
    const int64_t woken_ns = monotonic_ns();
    if (woken_ns - wake_ns > slice_ns) awake_since_ns = woken_ns;
  }
}

// The exchange decides who publishes: if the servo hears the arm first, nothing is announced.
void Watchdog::announce(int64_t since_ns) noexcept {
  publishing_ = true;
  if (due_since_ns_.compare_exchange_strong(since_ns, kAnnounced)) {
    RobotState state{};
    uint64_t any = 0;
    run_.read_state(state, any);
    state.mode = static_cast<int32_t>(Mode::fault);
    state.fault = static_cast<int32_t>(Trouble::arm_silent);
    run_.publish_state(state);
    run_.alarm();
  }
  publishing_ = false;
}

}  // namespace poco
