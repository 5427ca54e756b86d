#include "step.hpp"

#include <algorithm>
#include <cmath>

#include "guards.hpp"
#include "reckoning.hpp"

namespace poco {
namespace {

constexpr int32_t kReflex = 4, kUserStopped = 5;  // robot_mode of the Franka Control Interface

bool state_finite(const ArmState& state) noexcept {
  return all_finite(state.q) && all_finite(state.dq) && all_finite(state.q_d) && all_finite(state.dq_d) &&
         all_finite(state.ddq_d);
}

// Jerk that bridging a gap may add, as a share of the limit: STEP_MARGINS and this stay inside the arm's own limits.
constexpr double kBridgeShare = 0.2;

// The arm ends a motion by itself after this many lost commands (Franka Control Interface).
constexpr int64_t kLostTicksMax = 20;

// Largest error of a joint position in single precision (rad), as which the arm reports it. A lost command that moves
// less than this adds at most 3 kSingleRad / tick^3 of jerk, which is inside kBridgeShare.
constexpr double kSingleRad = 2.5e-7;

// Whether the arm still goes on with its motion at `tick`, however many states in between were lost.
bool follows_soon(int64_t tick, const Memory& memory) noexcept {
  return tick > memory.tick && tick <= memory.tick + kLostTicksMax;
}

// One tick of the servo: the steps in the order in which step() calls them.
class Cycle {
 public:
  Cycle(const ArmState& state, const Limits& limits, Memory& memory) noexcept
      : state_(state), limits_(limits), memory_(memory) {}

  void give_way(bool led) noexcept;
  void anchor() noexcept;
  void check_arm() noexcept;
  void obey(Request request, int64_t recoveries) noexcept;
  void take_in(const ChunkSpline* newest) noexcept;
  void attach() noexcept;
  void move() noexcept;
  void watch_hold() noexcept;
  Command report() const noexcept;

  // What was planned for the tick before this one, with the backward differences up to it.
  struct Before {
    Motion planned;
    Joints dq, ddq;
  };
  Before before() noexcept;

 private:
  bool read_desired() noexcept;
  bool arm_took_command() const noexcept;
  bool arm_is_well() const noexcept;
  bool bridge() noexcept;
  void start_from_arm() noexcept;
  void note(Trouble trouble) noexcept;
  void latch(Trouble trouble) noexcept;
  void stop_moving() noexcept;
  void begin_brake(int64_t tick) noexcept;
  bool listening() const noexcept;
  Motion planned(int64_t tick) noexcept;
  Trouble examine_candidate(const Motion& candidate) const noexcept;
  void commit(const Motion& next) noexcept;
  bool sent_is_still() const noexcept;
  Mode mode() const noexcept;

  const ArmState& state_;
  const Limits& limits_;
  Memory& memory_;
  Trouble event_ = Trouble::none;
};

void Cycle::note(Trouble trouble) noexcept {
  ++memory_.event_counts[static_cast<int>(trouble)];
  event_ = std::max(event_, trouble);
}

void Cycle::latch(Trouble trouble) noexcept {
  note(trouble);
  if (memory_.fault == Trouble::none) memory_.fault = trouble;
  stop_moving();
}

void Cycle::stop_moving() noexcept {
  memory_.pending = false;
  if (memory_.plan == Plan::chunk || memory_.plan == Plan::led) begin_brake(state_.tick - 1);
}

void Cycle::give_way(bool led) noexcept {
  if (memory_.plan == Plan::led && !led) begin_brake(memory_.tick);
  if (memory_.plan == Plan::hold && led && listening()) {
    memory_.plan = Plan::led;
    memory_.has_followed = false;  // where a hand leaves the arm it may be held for any time
  }
}

// The stop begins at the commanded state, that of `tick`, which had been accepted together with this very stop.
void Cycle::begin_brake(int64_t tick) noexcept {
  memory_.plan = Plan::brake;
  memory_.brake = Brake(memory_.commanded, limits_);
  memory_.brake_tick = tick;
}

bool Cycle::listening() const noexcept { return memory_.request == Request::armed && memory_.fault == Trouble::none; }

// Takes over what the arm reports as its desired motion: the command it took last, or its own extrapolation where that
// was lost. What is not a number there is reckoned from whichever of the two the other numbers are nearer to; false
// where nothing is known to reckon from.
bool Cycle::read_desired() noexcept {
  Motion desired{state_.q_d, state_.dq_d, state_.ddq_d};
  if (!all_finite(desired.q) || !all_finite(desired.dq) || !all_finite(desired.ddq)) {
    const int64_t ticks = state_.tick - memory_.tick;
    if (!memory_.anchored || ticks < 1 || ticks > kLostTicksMax) return false;
    const Motion taken = extrapolate({memory_.commanded.q, memory_.sent_dq, memory_.sent_ddq}, ticks - 1);
    const Motion lost = extrapolate(memory_.desired, ticks);
    const bool took = distance_where_finite(taken.q, desired.q) <= distance_where_finite(lost.q, desired.q);
    const Motion& likely = took ? taken : lost;
    fill_not_finite(desired.q, likely.q);
    fill_not_finite(desired.dq, likely.dq);
    fill_not_finite(desired.ddq, likely.ddq);
  }
  memory_.desired = desired;
  return true;
}

bool Cycle::arm_took_command() const noexcept {
  for (int j = 0; j < kJoints; ++j) {
    if (!(std::abs(memory_.desired.q[j] - memory_.commanded.q[j]) <= kSingleRad)) return false;
  }
  return true;
}

// After a start, lost states or lost commands the arm's own desired motion, which includes what it extrapolated, is the
// last command.
void Cycle::anchor() noexcept {
  if (!read_desired()) return;
  if (memory_.anchored) {
    if (state_.tick == memory_.tick + 1 && arm_took_command()) return;
    if (bridge()) return note(Trouble::gap_bridged);
    note(Trouble::gap_not_bridged);
  }
  start_from_arm();
}

Cycle::Before Cycle::before() noexcept {
  Before last{memory_.commanded, memory_.sent_dq, memory_.sent_ddq};
  for (int64_t tick = memory_.tick + 1; tick < state_.tick; ++tick) {
    const Motion next = planned(tick);
    const Motion differences = differentiate(next.q, {last.planned.q, last.dq, last.ddq});
    last = {next, differences.dq, differences.ddq};
  }
  return last;
}

// Continues the plan if joining it adds so little jerk to the plan's own that the arm's limits hold whatever follows:
// the three commands before this tick, planned against those the arm reports, are all that the next differences see.
bool Cycle::bridge() noexcept {
  if (!follows_soon(state_.tick, memory_)) return false;
  const auto [last, dq, ddq] = before();
  for (int j = 0; j < kJoints; ++j) {
    const double first = last.q[j] - memory_.desired.q[j];
    const double second = first - (dq[j] - memory_.desired.dq[j]) * kTickS;
    const double third = 2 * second - first + (ddq[j] - memory_.desired.ddq[j]) * kTickS * kTickS;
    const double added =
        std::max({std::abs(3 * first - 3 * second + third), std::abs(3 * first - second), std::abs(first)});
    if (!(added * kTicksPerS * kTicksPerS * kTicksPerS <= kBridgeShare * limits_.jerk_max[j])) return false;
  }
  memory_.commanded = last;
  memory_.sent_dq = dq;
  memory_.sent_ddq = ddq;
  return true;
}

// The arm's derivatives are backward differences: at constant acceleration the velocity at the tick itself is half a
// tick further.
void Cycle::start_from_arm() noexcept {
  memory_.anchored = true;
  memory_.pending = false;
  memory_.sent_dq = memory_.desired.dq;
  memory_.sent_ddq = memory_.desired.ddq;
  memory_.commanded = memory_.desired;
  for (int j = 0; j < kJoints; ++j) memory_.commanded.dq[j] += memory_.desired.ddq[j] * kTickS / 2;
  begin_brake(state_.tick - 1);
}

bool Cycle::arm_is_well() const noexcept {
  return state_finite(state_) && memory_.model_finite && state_.errors == 0 && state_.robot_mode != kReflex &&
         state_.robot_mode != kUserStopped;
}

void Cycle::check_arm() noexcept {
  if (memory_.fault != Trouble::none) return;
  if (!state_finite(state_) || !memory_.model_finite) return latch(Trouble::state_not_finite);
  if (state_.robot_mode == kUserStopped) return latch(Trouble::user_stopped);
  if (state_.errors > 0 || state_.robot_mode == kReflex) latch(Trouble::arm_error);
}

void Cycle::obey(Request request, int64_t recoveries) noexcept {
  if (request == Request::orphaned && memory_.request != Request::orphaned) note(Trouble::supervisor_lost);
  if (request != Request::armed) {
    stop_moving();
    memory_.has_followed = false;
  }
  memory_.request = request;
  const bool recoverable = memory_.plan == Plan::hold && arm_is_well();
  if (recoveries != memory_.recoveries && (recoverable || memory_.fault == Trouble::none)) {
    memory_.recoveries = recoveries;
    memory_.fault = Trouble::none;
    memory_.has_followed = false;
  }
}

void Cycle::take_in(const ChunkSpline* newest) noexcept {
  if (newest == nullptr || newest->chunk_id == memory_.presented_id) return;
  memory_.presented_id = newest->chunk_id;
  if (!listening()) return note(Trouble::chunk_ignored);
  const Trouble fault = examine_motion(*newest, limits_);
  if (fault != Trouble::none) return latch(fault);
  if (newest->chunk_id < memory_.seen_id) return note(Trouble::chunk_reordered);
  memory_.seen_id = newest->chunk_id;
  if (newest->attach_tick + ticks_of(*newest) < state_.tick) return note(Trouble::chunk_stale);
  if (newest->attach_tick < state_.tick) return note(Trouble::chunk_late);
  copy_used(*newest, memory_.pending_chunk());
  memory_.pending = true;
}

void Cycle::attach() noexcept {
  if (!memory_.pending || memory_.pending_chunk().attach_tick > state_.tick) return;
  memory_.pending = false;
  const ChunkSpline& next = memory_.pending_chunk();
  if (next.attach_tick < state_.tick) return note(Trouble::chunk_late);
  const int64_t last_id = memory_.active_chunk().chunk_id;
  const bool may_follow = memory_.plan == Plan::chunk || memory_.plan == Plan::hold;
  const bool follows = may_follow && next.predecessor_id == last_id;
  const bool starts_from_hold = memory_.plan == Plan::hold && next.predecessor_id == 0;
  if (!follows && !starts_from_hold) return note(Trouble::chunk_wrong_predecessor);
  int64_t first_segment = 0;
  if (!meets(planned(state_.tick), evaluate(next, 0, first_segment))) return note(Trouble::chunk_discontinuous);
  memory_.active = 1 - memory_.active;
  memory_.segment = 0;
  memory_.plan = Plan::chunk;
  memory_.has_followed = true;
}

Motion Cycle::planned(int64_t tick) noexcept {
  switch (memory_.plan) {
    case Plan::chunk:
      return evaluate(memory_.active_chunk(), tick - memory_.active_chunk().attach_tick, memory_.segment);
    case Plan::brake:
      return memory_.brake.at(static_cast<double>(tick - memory_.brake_tick) * kTickS);
    case Plan::led:
      return {state_.q, state_.dq, {}};
    case Plan::hold:
      break;
  }
  return {memory_.command.q, {}, {}};
}

Trouble Cycle::examine_candidate(const Motion& candidate) const noexcept {
  const Sent sent{memory_.commanded.q, memory_.sent_dq, memory_.sent_ddq};
  const Trouble joints = check_joints(candidate, sent, limits_);
  if (joints != Trouble::none) return joints;
  const Trouble stop = check_stop(candidate, limits_);
  if (stop != Trouble::none) return stop;
  return check_tip(candidate, sent, state_.q, limits_);
}

void Cycle::move() noexcept {
  if (!memory_.anchored) return commit({state_.q_d, {}, {}});  // not finite: the client library refuses to send it
  Motion next = planned(state_.tick);
  const Trouble trouble = memory_.plan == Plan::chunk ? examine_candidate(next) : Trouble::none;
  if (trouble != Trouble::none) {
    grade_of(trouble) == Grade::latched ? latch(trouble) : note(trouble);
    stop_moving();
    next = planned(state_.tick);
  }
  const bool chunk_over = memory_.plan == Plan::chunk &&
                          state_.tick >= memory_.active_chunk().attach_tick + ticks_of(memory_.active_chunk());
  const bool brake_over = memory_.plan == Plan::brake &&
                          static_cast<double>(state_.tick - memory_.brake_tick) * kTickS >= memory_.brake.duration_s();
  commit(next);
  if (chunk_over) note(Trouble::chunk_ended);
  if (chunk_over || brake_over) memory_.plan = Plan::hold;
}

void Cycle::commit(const Motion& next) noexcept {
  const Motion differences = differentiate(next.q, {memory_.commanded.q, memory_.sent_dq, memory_.sent_ddq});
  memory_.sent_dq = differences.dq;
  memory_.sent_ddq = differences.ddq;
  memory_.commanded = next;
  memory_.tick = state_.tick;
}

void Cycle::watch_hold() noexcept {
  const bool waiting = memory_.plan == Plan::hold && listening() && memory_.has_followed;
  memory_.holding_ticks = waiting ? memory_.holding_ticks + 1 : 0;
  if (memory_.holding_ticks > limits_.hold_timeout_ticks) latch(Trouble::hold_timeout);
}

// True when not only the plan but the sent commands have come to rest, as the arm sees them.
bool Cycle::sent_is_still() const noexcept { return memory_.sent_dq == Joints{} && memory_.sent_ddq == Joints{}; }

Mode Cycle::mode() const noexcept {
  if (memory_.plan == Plan::chunk) return Mode::following;
  if (memory_.plan == Plan::brake) return Mode::braking;
  if (memory_.plan == Plan::led) return Mode::led;
  if (memory_.request == Request::stop) return sent_is_still() ? Mode::finished : Mode::braking;
  if (memory_.fault != Trouble::none) return Mode::fault;
  return memory_.request == Request::armed ? Mode::holding : Mode::disarmed;
}

Command Cycle::report() const noexcept {
  const bool following = memory_.plan == Plan::chunk;
  return {memory_.commanded.q,
          memory_.commanded.dq,
          memory_.commanded.ddq,
          following ? memory_.active_chunk().chunk_id : 0,
          following ? memory_.active_chunk().generation : 0,
          static_cast<int32_t>(mode()),
          static_cast<int32_t>(memory_.fault),
          static_cast<int32_t>(event_),
          mode() == Mode::finished};
}

}  // namespace

Command step(const ArmState& state, const ChunkSpline* newest, Request request, int64_t recoveries,
             const Limits& limits, Memory& memory) noexcept {
  if (memory.anchored && state.tick == memory.tick) return memory.command;
  Cycle cycle(state, limits, memory);
  cycle.anchor();
  cycle.check_arm();
  cycle.obey(request, recoveries);
  cycle.take_in(newest);
  cycle.attach();
  cycle.move();
  cycle.watch_hold();
  memory.command = cycle.report();
  return memory.command;
}

void report_planned(ArmState& state, const Limits& limits, Memory& memory) noexcept {
  state.q_d = state.q;
  state.dq_d = state.ddq_d = {};
  if (!memory.anchored || !follows_soon(state.tick, memory)) return;
  const int64_t segment = memory.segment;
  const auto [planned, dq, ddq] = Cycle(state, limits, memory).before();
  memory.segment = segment;
  state.q_d = planned.q;
  state.dq_d = dq;
  state.ddq_d = ddq;
}

void give_way(const ArmState& state, bool led, const Limits& limits, Memory& memory) noexcept {
  if (memory.anchored) Cycle(state, limits, memory).give_way(led);
}

void latch_outside_of_step(Memory& memory, Trouble trouble) noexcept {
  ++memory.event_counts[static_cast<int>(trouble)];
  if (memory.fault == Trouble::none) memory.fault = trouble;
  memory.command.fault = static_cast<int32_t>(memory.fault);
  memory.command.mode = static_cast<int32_t>(Mode::fault);
  reanchor(memory);
}

void reanchor(Memory& memory) noexcept {
  memory.anchored = false;
  memory.pending = false;
  memory.plan = Plan::hold;
}

}  // namespace poco
