#include "guards.hpp"

#include <algorithm>
#include <cmath>

#include "envelope.hpp"

namespace poco {
namespace {

constexpr double kRounding = 1e-6;  // m and m/s: a plan that touches a guard has not crossed it

// The arm ends a motion with the twentieth command that is lost in a row.
constexpr double kLongestLossS = 19 * kTickS;

// Instants at which the motion of a whole chunk is examined; the tip, which costs more, at every fourth.
constexpr int64_t kInstants = 128, kInstantsPerTip = 4;

Trouble check_planned(const Motion& motion, const Limits& limits) noexcept {
  for (int j = 0; j < kJoints; ++j) {
    if (!(std::isfinite(motion.q[j]) && std::isfinite(motion.dq[j]) && std::isfinite(motion.ddq[j]))) {
      return Trouble::chunk_not_finite;
    }
  }
  for (int j = 0; j < kJoints; ++j) {
    if (!inside_positions(motion.q[j], limits, j)) return Trouble::position_limit;
    if (!inside_envelope(motion.q[j], motion.dq[j], limits, j)) return Trouble::velocity_limit;
    if (std::abs(motion.ddq[j]) > limits.acceleration_max[j]) return Trouble::acceleration_limit;
  }
  return Trouble::none;
}

Trouble check_place(const Tip& tip, const Limits& limits) noexcept {
  for (int i = 0; i < 3; ++i) {
    if (tip.position[i] < limits.box_min[i] - kRounding || tip.position[i] > limits.box_max[i] + kRounding)
      return Trouble::workspace_box;
  }
  return tip.position[2] < limits.table_z - kRounding ? Trouble::table_plane : Trouble::none;
}

bool too_fast(const Tip& next, const Tip& last, double seconds, const Limits& limits) noexcept {
  return distance_m(next, last) > (limits.speed_max + kRounding) * seconds;
}

Limits without_velocity_margin(Limits limits) noexcept {
  for (double& speed : limits.velocity_max) speed /= limits.velocity_scale;
  limits.velocity_scale = 1;
  return limits;
}

Motion extrapolate(const Motion& motion, double seconds) noexcept {
  Motion later = motion;
  for (int j = 0; j < kJoints; ++j) {
    later.q[j] += seconds * (motion.dq[j] + seconds * motion.ddq[j] / 2);
    later.dq[j] += seconds * motion.ddq[j];
  }
  return later;
}

}  // namespace

Motion differentiate(const Joints& q, const Sent& sent) noexcept {
  Motion motion{q, {}, {}};
  for (int j = 0; j < kJoints; ++j) {
    motion.dq[j] = (q[j] - sent.q[j]) * kTicksPerS;
    motion.ddq[j] = (motion.dq[j] - sent.dq[j]) * kTicksPerS;
  }
  return motion;
}

Trouble check_joints(const Motion& candidate, const Sent& sent, const Limits& limits) noexcept {
  const Trouble planned = check_planned(candidate, limits);
  if (planned != Trouble::none) return planned;
  const Motion differences = differentiate(candidate.q, sent);
  for (int j = 0; j < kJoints; ++j) {
    const double jerk = (differences.ddq[j] - sent.ddq[j]) * kTicksPerS;
    if (!inside_envelope(candidate.q[j], differences.dq[j], limits, j)) return Trouble::velocity_limit;
    if (std::abs(differences.ddq[j]) > limits.acceleration_max[j]) return Trouble::acceleration_limit;
    if (std::abs(jerk) > limits.jerk_max[j]) return Trouble::jerk_limit;
  }
  return Trouble::none;
}

Trouble check_stop(const Motion& candidate, const Limits& limits) noexcept {
  const bool stops = Brake(candidate, limits).stays_inside(limits) &&
                     Brake(extrapolate(candidate, kLongestLossS), limits).stays_inside(without_velocity_margin(limits));
  return stops ? Trouble::none : Trouble::no_way_to_stop;
}

Trouble check_tip(const Motion& candidate, const Sent& sent, const Joints& measured_q, const Limits& limits) noexcept {
  const Tip next = tip_of(candidate.q, limits.flange_t_tip), last = tip_of(sent.q, limits.flange_t_tip);
  const Tip measured = tip_of(measured_q, limits.flange_t_tip);
  const Trouble place = check_place(next, limits);
  if (place != Trouble::none) return place;
  if (too_fast(next, last, kTickS, limits)) return Trouble::tip_speed;

  const double lead_m = distance_m(next, measured), lead_rad = angle_rad(next, measured);
  const bool further = lead_m > limits.lead_max_m && lead_m > distance_m(last, measured);
  const bool turned_further = lead_rad > limits.lead_max_rad && lead_rad > angle_rad(last, measured);
  return further || turned_further ? Trouble::lead_exceeded : Trouble::none;
}

Trouble examine_motion(const ChunkSpline& chunk, const Limits& limits) noexcept {
  const Trouble record = examine(chunk, limits);
  if (record != Trouble::none) return record;
  const int64_t ticks = ticks_of(chunk), instants = std::min(ticks, kInstants);
  Tip last_tip{};
  int64_t segment = 0, last_tip_tick = 0;
  for (int64_t instant = 0; instant <= instants; ++instant) {
    const int64_t tick = ticks * instant / instants;
    const Motion motion = evaluate(chunk, tick, segment);
    for (const Trouble trouble : {check_planned(motion, limits), check_stop(motion, limits)}) {
      if (trouble != Trouble::none) return trouble;
    }
    if (instant % kInstantsPerTip != 0 && instant != instants) continue;
    const Tip tip = tip_of(motion.q, limits.flange_t_tip);
    const Trouble place = check_place(tip, limits);
    if (place != Trouble::none) return place;
    const double seconds = static_cast<double>(tick - last_tip_tick) * kTickS;
    if (instant > 0 && too_fast(tip, last_tip, seconds, limits)) return Trouble::tip_speed;
    last_tip = tip;
    last_tip_tick = tick;
  }
  return Trouble::none;
}

}  // namespace poco
