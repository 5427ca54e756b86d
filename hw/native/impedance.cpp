#include "impedance.hpp"

#include <algorithm>
#include <cmath>

#include "kinematics.hpp"
#include "null_space.hpp"

namespace poco {
namespace {

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
                   const Pose& flange_t_tip, const Lag& lag) noexcept {
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

bool finite(double value) noexcept { return std::isfinite(value); }

template <size_t count>
bool all_finite(const std::array<double, count>& values) noexcept {
  return std::all_of(values.begin(), values.end(), finite);
}

}  // namespace

bool drives_by_torque(const Law& law) noexcept { return law.kind != static_cast<int64_t>(LawKind::position); }

bool can_be_ours(const Law& law, double torque, int joint) noexcept {
  return std::abs(torque) <= law.torque_max[joint] + law.torque_step_max[joint];
}

bool finite_for(const Law& law, const ArmState& state, const Dynamics& dynamics) noexcept {
  const bool at_the_tip = law.kind == static_cast<int64_t>(LawKind::cartesian_impedance);
  return all_finite(dynamics.coriolis) && all_finite(dynamics.mass) &&
         (!at_the_tip || (all_finite(dynamics.jacobian) && all_finite(state.O_T_EE)));
}

bool is_for_guiding(const Law& law) noexcept {
  return law.kind == static_cast<int64_t>(LawKind::joint_impedance) && law.stiffness == Joints{};
}

Joints impedance_torque(const Law& law, const ArmState& state, const Dynamics& dynamics, const Command& command,
                        const Pose& flange_t_tip, const Joints& taken) noexcept {
  const Lag lag = lag_of(state, command);
  const bool at_the_tip = law.kind == static_cast<int64_t>(LawKind::cartesian_impedance);
  Joints torque = at_the_tip ? tip_springs(law, state, dynamics, command, flange_t_tip, lag) : joint_springs(law, lag);
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
