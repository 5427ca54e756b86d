#include "impedance.hpp"

#include <algorithm>
#include <cmath>

#include "kinematics.hpp"
#include "null_space.hpp"

namespace poco {
namespace {

// How far inside the joints' ends and the walls of the box an arm that is led by hand begins to feel them: what planned
// motion keeps off them as well, and a little more.
constexpr double kEndRad = 0.1, kWallM = 0.005;

// Where the arm stands behind its set-point, joint by joint.
struct Lag {
  Joints q, dq;
};

Lag lag_of(const ArmState& state, const Command& command) noexcept {
  Lag lag;
  for (int j = 0; j < kJoints; ++j) {
    lag.q[j] = command.q[j] - state.q[j];
    lag.dq[j] = command.dq[j] - state.dq[j];
  }
  return lag;
}

Joints joint_springs(const Law& law, const Lag& lag) noexcept {
  Joints torque;
  for (int j = 0; j < kJoints; ++j) torque[j] = law.stiffness[j] * lag.q[j] + law.damping[j] * lag.dq[j];
  return torque;
}

// The end effector's Jacobian, moved to the tip: a turn about the end effector carries the tip along.
Jacobian at_tip(const std::array<double, 42>& of_end_effector, const Pose& O_T_EE, const Tip& tip) noexcept {
  std::array<double, 3> arm;
  for (int i = 0; i < 3; ++i) arm[i] = tip.position[i] - O_T_EE[12 + i];
  Jacobian jacobian;
  for (int j = 0; j < kJoints; ++j) {
    const double* column = &of_end_effector[6 * j];
    const double* turn = column + 3;
    for (int i = 0; i < 3; ++i) {
      const int k = (i + 1) % 3, l = (i + 2) % 3;
      jacobian[i][j] = column[i] + turn[k] * arm[l] - turn[l] * arm[k];
      jacobian[3 + i][j] = turn[i];
    }
  }
  return jacobian;
}

// From `tip` to `goal`: distance (m) and sine of the angle times its axis, in the base frame.
Twist way(const Tip& tip, const Tip& goal) noexcept {
  Twist error{};
  for (int i = 0; i < 3; ++i) {
    error[i] = goal.position[i] - tip.position[i];
    const int k = (i + 1) % 3, l = (i + 2) % 3;
    for (int axis = 0; axis < 3; ++axis) {
      const auto &from = tip.columns[axis], &to = goal.columns[axis];
      error[3 + i] += (from[k] * to[l] - from[l] * to[k]) / 2;
    }
  }
  return error;
}

// Springs at the tip; what they leave free, the null space, is pulled to the planned posture by those of the joints.
Joints tip_springs(const Law& law, const ArmState& state, const Dynamics& dynamics, const Command& command,
                   const Pose& flange_t_tip) noexcept {
  const Lag lag = lag_of(state, command);
  const Tip tip = tip_of(state.q, flange_t_tip);
  const Jacobian jacobian = at_tip(dynamics.jacobian, state.O_T_EE, tip);
  const Twist error = way(tip, tip_of(command.q, flange_t_tip)), rate = times(jacobian, lag.dq);
  Twist wrench;
  for (int i = 0; i < 6; ++i) wrench[i] = law.tip_stiffness[i] * error[i] + law.tip_damping[i] * rate[i];
  const Joints task = transposed_times(jacobian, wrench), posture = in_null_space(jacobian, joint_springs(law, lag));
  Joints torque;
  for (int j = 0; j < kJoints; ++j) torque[j] = task[j] + posture[j];
  return torque;
}

// The nearest value whose distance from both ends is at least `inset`.
double inside(double value, double low, double high, double inset) noexcept {
  return std::min(std::max(value, low + inset), high - inset);
}

// What keeps an arm that a hand leads inside its joints' ends and the box, and its tip upright where that is asked for.
// All else only damps.
Joints guiding_springs(const Law& law, const ArmState& state, const Dynamics& dynamics, const Limits& limits) noexcept {
  Command allowed{};
  for (int j = 0; j < kJoints; ++j) {
    allowed.q[j] = inside(state.q[j], limits.position_min[j], limits.position_max[j], kEndRad);
  }
  const Tip tip = tip_of(state.q, limits.flange_t_tip);
  const Jacobian jacobian = at_tip(dynamics.jacobian, state.O_T_EE, tip);
  const Twist rate = times(jacobian, state.dq);
  const double turn = rate[3] * law.upright[0] + rate[4] * law.upright[1] + rate[5] * law.upright[2];
  Twist wrench{};
  for (int i = 0; i < 3; ++i) {
    const double low = i == 2 ? std::max(limits.box_min[i], limits.table_z) : limits.box_min[i];
    const double back = inside(tip.position[i], low, limits.box_max[i], kWallM) - tip.position[i];
    if (back != 0) wrench[i] = law.tip_stiffness[i] * back - law.tip_damping[i] * rate[i];
    const int k = (i + 1) % 3, l = (i + 2) % 3;
    const double tilt = tip.columns[2][k] * law.upright[l] - tip.columns[2][l] * law.upright[k];
    const double tilting = rate[3 + i] - turn * law.upright[i];
    wrench[3 + i] = law.tip_stiffness[3 + i] * tilt - law.tip_damping[3 + i] * tilting;
  }
  const Joints springs = joint_springs(law, lag_of(state, allowed)), kept = transposed_times(jacobian, wrench);
  Joints torque;
  for (int j = 0; j < kJoints; ++j) torque[j] = springs[j] + kept[j];
  return torque;
}

bool finite(double value) noexcept { return std::isfinite(value); }

LawKind kind_of(const Law& law) noexcept { return static_cast<LawKind>(law.kind); }

Joints springs(const Law& law, const ArmState& state, const Dynamics& dynamics, const Command& command,
               const Limits& limits) noexcept {
  switch (kind_of(law)) {
    case LawKind::cartesian_impedance:
      return tip_springs(law, state, dynamics, command, limits.flange_t_tip);
    case LawKind::guiding:
      return guiding_springs(law, state, dynamics, limits);
    default:
      return joint_springs(law, lag_of(state, command));
  }
}

template <size_t count>
bool all_finite(const std::array<double, count>& values) noexcept {
  return std::all_of(values.begin(), values.end(), finite);
}

}  // namespace

bool drives_by_torque(const Law& law) noexcept { return kind_of(law) != LawKind::position; }

bool can_be_ours(const Law& law, double torque, int joint) noexcept {
  return std::abs(torque) <= law.torque_max[joint] + law.torque_step_max[joint];
}

bool finite_for(const Law& law, const ArmState& state, const Dynamics& dynamics) noexcept {
  const bool at_the_tip = kind_of(law) == LawKind::cartesian_impedance || kind_of(law) == LawKind::guiding;
  return all_finite(dynamics.coriolis) && all_finite(dynamics.mass) &&
         (!at_the_tip || (all_finite(dynamics.jacobian) && all_finite(state.O_T_EE)));
}

Joints impedance_torque(const Law& law, const ArmState& state, const Dynamics& dynamics, const Command& command,
                        const Limits& limits, const Joints& taken) noexcept {
  Joints torque = springs(law, state, dynamics, command, limits);
  for (int j = 0; j < kJoints; ++j) {
    torque[j] += dynamics.coriolis[j];
    for (int k = 0; k < kJoints; ++k) torque[j] += dynamics.mass[kJoints * j + k] * command.ddq[k];
  }
  if (!all_finite(torque)) torque = {};
  for (int j = 0; j < kJoints; ++j) {
    const double last = dynamics.tau_d[j], step = law.torque_step_max[j];
    torque[j] = can_be_ours(law, last, j) ? std::clamp(torque[j], last - step, last + step) : taken[j];
    torque[j] = std::clamp(torque[j], -law.torque_max[j], law.torque_max[j]);
  }
  return torque;
}

}  // namespace poco
