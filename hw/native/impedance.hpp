// The servo's own law: joint torques that pull the arm to the planned set-points like springs and dampers. Pure, no
// heap, never throws.
#pragma once

#include "records.hpp"

namespace poco {

// What the vendor's library says of the arm in one tick.
struct Dynamics {
  Joints tau_d;                     // torque the arm took last (N m, without gravity)
  Joints coriolis;                  // N m
  std::array<double, 49> mass;      // kg m^2, 7 x 7
  std::array<double, 42> jacobian;  // of the end effector in the base frame, 6 x 7 by columns, translation first
};

// Torque [N m, without gravity, which the arm adds] towards `command` where the arm is in `state`. Whatever comes in,
// it is inside `law.torque_max` and differs from the last torque, `dynamics.tau_d`, by at most `law.torque_step_max`.
// Where the law cannot have asked for that it is `taken`, the last one known: the arm has that or what was asked for
// since, and the two are no further apart. Where the state says nothing usable the torque goes to zero. The law of
// guiding goes by `limits` instead of `command`: inside of them it only damps, and keeps the tip upright.
Joints impedance_torque(const Law& law, const ArmState& state, const Dynamics& dynamics, const Command& command,
                        const Limits& limits, const Joints& taken) noexcept;

// Whether the law may have asked for `torque` (N m) at all: false for what is no number or outside of its bounds.
bool can_be_ours(const Law& law, double torque, int joint) noexcept;

// Whether all that the law reads of `dynamics` and pose is a number; where it is not, its torque cannot be trusted.
bool finite_for(const Law& law, const ArmState& state, const Dynamics& dynamics) noexcept;

// Whether a law moves the arm at all.
bool drives_by_torque(const Law& law) noexcept;

}  // namespace poco
