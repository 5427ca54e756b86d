#include "servo.hpp"

#include <time.h>
#include <unistd.h>

#include <limits>

namespace poco {
namespace {

int64_t nanoseconds(double seconds) noexcept { return static_cast<int64_t>(seconds * 1e9); }

}  // namespace

int64_t monotonic_ns() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{1'000'000'000} * now.tv_sec + now.tv_nsec;
}

Servo::Servo(SharedRun& run, const Limits& limits, const Law& law, const Law& guiding, double supervisor_timeout_s,
             double orphan_hold_s) noexcept
    : run_(run),
      limits_(limits),
      law_(law),
      guiding_(guiding),
      supervisor_timeout_ns_(nanoseconds(supervisor_timeout_s)),
      orphan_hold_ns_(nanoseconds(orphan_hold_s)),
      watchdog_(run) {
  run_.control().servo_pid = getpid();
}

// What the supervisor asked for; once its heartbeat is missing: hold, and in the end finish. A supervisor that never
// beat is not missed.
Request Servo::request(int64_t now_ns) noexcept {
  const auto asked = static_cast<Request>(run_.control().request.load(std::memory_order_acquire));
  const int64_t beat_ns = run_.control().supervisor_ns.load(std::memory_order_acquire);
  const bool lost = beat_ns != 0 && now_ns - beat_ns > supervisor_timeout_ns_;
  if (!lost) orphaned_ns_ = 0;
  if (!lost || asked == Request::stop) return asked;
  if (orphaned_ns_ == 0) orphaned_ns_ = now_ns;
  return now_ns - orphaned_ns_ > orphan_hold_ns_ ? Request::stop : Request::orphaned;
}

bool Servo::may_be_led(int64_t tick) noexcept {
  return drives_by_torque(guiding_) && tick <= run_.control().led_until.load(std::memory_order_acquire);
}

int64_t Servo::received() noexcept {
  before_ = effort_so_far();
  return monotonic_ns();
}

const Command& Servo::tick(const ArmState& state) noexcept {
  if (watchdog_.heard()) latch_outside_of_step(memory_, Trouble::arm_silent);
  record_.period_ns = record_.state.received_ns == 0 ? 0 : state.received_ns - record_.state.received_ns;
  record_.state = state;
  if (drives_by_torque(law_)) {
    give_way(state, may_be_led(state.tick), limits_, memory_);
    report_planned(record_.state, limits_, memory_);
  }
  if (run_.silence_announced(state.received_ns)) hold_anew(memory_);
  run_.read_chunk(newest_, newest_number_);
  record_.command = step(record_.state, newest_number_ == 0 ? nullptr : &newest_, request(state.received_ns),
                         run_.control().recoveries.load(std::memory_order_acquire), limits_, memory_);
  publish();
  return record_.command;
}

const Joints& Servo::torque(const Dynamics& dynamics) noexcept {
  const Law& law = record_.command.mode == static_cast<int32_t>(Mode::led) ? guiding_ : law_;
  memory_.model_finite = finite_for(law, record_.state, dynamics);
  for (int j = 0; j < kJoints; ++j) {
    if (can_be_ours(law, dynamics.tau_d[j], j)) taken_[j] = dynamics.tau_d[j];
  }
  torque_ = impedance_torque(law, record_.state, dynamics, record_.command, limits_, taken_);
  return torque_;
}

void Servo::publish() noexcept {
  const ArmState& state = record_.state;
  const Command& command = record_.command;
  if (!watchdog_.publishing()) {
    run_.publish_state({state.tick, state.received_ns, state.q, state.dq, state.tau, state.tau_ext, command.q,
                        command.dq, command.ddq, state.O_T_EE, command.chunk_id, command.generation, command.mode,
                        command.fault, std::numeric_limits<double>::quiet_NaN()});
  }
  Control& shared = run_.control();
  for (int code = 0; code < kEventCodes; ++code) {
    shared.event_counts[code].store(memory_.event_counts[code], std::memory_order_relaxed);
  }
  shared.finished.store(command.finished, std::memory_order_relaxed);
  shared.servo_ns.store(state.received_ns, std::memory_order_release);
  run_.announce(state.tick);
}

void Servo::sent() noexcept {
  record_.sent_ns = monotonic_ns();
  const Effort effort = effort_so_far() - before_;
  record_.cpu_ns = effort.cpu_ns;
  record_.waits = static_cast<int32_t>(effort.waits);
  record_.preemptions = static_cast<int32_t>(effort.preemptions);
  record_.minor_faults = static_cast<int32_t>(effort.minor_faults);
  record_.major_faults = static_cast<int32_t>(effort.major_faults);
  if (!record_.command.finished) watchdog_.due(record_.sent_ns);
  run_.push_tick(record_);
}

void Servo::arm_failed(Trouble trouble) noexcept {
  const bool announced = watchdog_.heard();
  latch_outside_of_step(memory_, announced ? Trouble::arm_silent : trouble);
  record_.command = memory_.command;
  publish();
  run_.alarm();
}

void Servo::reanchor() noexcept {
  poco::reanchor(memory_);
  taken_ = {};  // a motion begins without torque
}

}  // namespace poco
