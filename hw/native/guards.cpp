#include "guards.hpp"

#include <cmath>

#include "envelope.hpp"

namespace poco {
namespace {

constexpr double kRounding = 1e-6;  // m and m/s: a plan that touches a guard has not crossed it

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
  const Motion differences = differentiate(candidate.q, sent);
  for (int j = 0; j < kJoints; ++j) {
    if (!(std::isfinite(candidate.q[j]) && std::isfinite(candidate.dq[j]) && std::isfinite(candidate.ddq[j]))) {
      return Trouble::chunk_not_finite;
    }
  }
  for (int j = 0; j < kJoints; ++j) {
    const double q = candidate.q[j], jerk = (differences.ddq[j] - sent.ddq[j]) * kTicksPerS;
    if (!inside_positions(q, limits, j)) return Trouble::position_limit;
    if (!inside_envelope(q, candidate.dq[j], limits, j) || !inside_envelope(q, differences.dq[j], limits, j)) {
      return Trouble::velocity_limit;
    }
    if (std::abs(candidate.ddq[j]) > limits.acceleration_max[j] ||
        std::abs(differences.ddq[j]) > limits.acceleration_max[j]) {
      return Trouble::acceleration_limit;
    }
    if (std::abs(jerk) > limits.jerk_max[j]) return Trouble::jerk_limit;
  }
  return Trouble::none;
}

Trouble check_tip(const Motion& candidate, const Sent& sent, const Joints& measured_q, const Limits& limits) noexcept {
  const Tip next = tip_of(candidate.q, limits.flange_t_tip), last = tip_of(sent.q, limits.flange_t_tip);
  const Tip measured = tip_of(measured_q, limits.flange_t_tip);
  for (int i = 0; i < 3; ++i) {
    if (next.position[i] < limits.box_min[i] - kRounding || next.position[i] > limits.box_max[i] + kRounding)
      return Trouble::workspace_box;
  }
  if (next.position[2] < limits.table_z - kRounding) return Trouble::table_plane;
  if (distance_m(next, last) * kTicksPerS > limits.speed_max + kRounding) return Trouble::tip_speed;

  const double lead_m = distance_m(next, measured), lead_rad = angle_rad(next, measured);
  const bool further = lead_m > limits.lead_max_m && lead_m > distance_m(last, measured);
  const bool turned_further = lead_rad > limits.lead_max_rad && lead_rad > angle_rad(last, measured);
  return further || turned_further ? Trouble::lead_exceeded : Trouble::none;
}

}  // namespace poco
