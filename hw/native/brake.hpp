// The jerk-limited stop that step() can start from any continuous commanded state.
#pragma once

#include "records.hpp"

namespace poco {

// Commanded motion at one instant: position (rad), velocity (rad/s), acceleration (rad/s^2) of every joint.
struct Motion {
  Joints q, dq, ddq;
};

// Time-optimal way of one joint from (velocity, acceleration) to (0, 0) with bounded jerk and acceleration:
// acceleration ramps to a peak, stays there, ramps to zero.
class JointBrake {
 public:
  JointBrake() = default;
  JointBrake(double q, double dq, double ddq, double acceleration_max, double jerk_max) noexcept;

  struct Point {
    double q, dq, ddq;
  };
  Point at(double seconds) const noexcept;
  double duration_s() const noexcept { return ramp_s_ + plateau_s_ + release_s_; }
  double end_q() const noexcept { return end_q_; }
  // Largest speed on the way (rad/s), signed like the direction of motion; meaningful where the joint does not turn
  // back.
  double peak_dq() const noexcept { return peak_dq_; }
  bool turns_back() const noexcept { return turns_back_; }

 private:
  double ramp_s_ = 0, plateau_s_ = 0, release_s_ = 0;
  double jerk_ = 0;
  Point start_{}, plateau_{}, release_{};
  double end_q_ = 0, peak_dq_ = 0;
  bool turns_back_ = false;
};

// One JointBrake per joint, begun together.
class Brake {
 public:
  Brake() = default;
  Brake(const Motion& start, const Limits& limits) noexcept;

  Motion at(double seconds) const noexcept;
  double duration_s() const noexcept { return duration_s_; }
  // True where every command of this stop stays inside the position limits and the position-dependent velocity limits.
  bool stays_inside(const Limits& limits) const noexcept;

 private:
  std::array<JointBrake, kJoints> joints_{};
  double duration_s_ = 0;
};

}  // namespace poco
