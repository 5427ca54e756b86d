#include "brake.hpp"

#include <algorithm>
#include <cmath>

#include "envelope.hpp"

namespace poco {
namespace {

// The stop uses a little less than the limits, so that rounding never decides between a limit and its breach.
constexpr double kBrakeShare = 0.98;

JointBrake::Point advance(const JointBrake::Point& point, double jerk, double s) noexcept {
  return {point.q + s * (point.dq + s * (point.ddq / 2 + s * jerk / 6)), point.dq + s * (point.ddq + s * jerk / 2),
          point.ddq + s * jerk};
}

bool stays_inside(const JointBrake& brake, const Limits& limits, int joint) noexcept {
  const double end = brake.end_q(), peak = brake.peak_dq();
  if (!brake.turns_back() && inside_positions(end, limits, joint) && inside_envelope(end, peak, limits, joint)) {
    return true;  // the envelope is narrowest where the joint stops
  }
  double previous = brake.at(0).q;
  const int ticks = static_cast<int>(std::ceil(brake.duration_s() * kTicksPerS));
  for (int tick = 1; tick <= ticks; ++tick) {
    const double q = brake.at(tick * kTickS).q;
    if (!inside_positions(q, limits, joint)) return false;
    if (!inside_envelope(q, (q - previous) * kTicksPerS, limits, joint)) return false;
    previous = q;
  }
  return true;
}

}  // namespace

JointBrake::JointBrake(double q, double dq, double ddq, double acceleration_max, double jerk_max) noexcept
    : start_{q, dq, ddq} {
  const double coasting = dq + ddq * std::abs(ddq) / (2 * jerk_max);  // velocity left when ddq is simply ramped to zero
  const double side = coasting > 0 ? 1 : -1;
  const double v = side * dq, a = side * ddq;  // mirrored: the peak acceleration is negative
  const double needed = std::sqrt(std::max(0.0, jerk_max * v + a * a / 2));
  const double peak = std::min(needed, std::max(acceleration_max, -a));
  ramp_s_ = std::max(0.0, (a + peak) / jerk_max);
  plateau_s_ = peak > 0 ? std::max(0.0, (v + a * a / (2 * jerk_max) - peak * peak / jerk_max) / peak) : 0;
  release_s_ = peak / jerk_max;
  jerk_ = -side * jerk_max;
  plateau_ = advance(start_, jerk_, ramp_s_);
  release_ = advance(plateau_, 0, plateau_s_);
  end_q_ = advance(release_, -jerk_, release_s_).q;
  peak_dq_ = side * (a > 0 ? v + a * a / (2 * jerk_max) : v);
  turns_back_ = v < 0;
}

JointBrake::Point JointBrake::at(double seconds) const noexcept {
  if (seconds < ramp_s_) return advance(start_, jerk_, seconds);
  if (seconds < ramp_s_ + plateau_s_) return advance(plateau_, 0, seconds - ramp_s_);
  if (seconds < duration_s()) return advance(release_, -jerk_, seconds - ramp_s_ - plateau_s_);
  return {end_q_, 0, 0};
}

Brake::Brake(const Motion& start, const Limits& limits) noexcept {
  for (int joint = 0; joint < kJoints; ++joint) {
    joints_[joint] = JointBrake(start.q[joint], start.dq[joint], start.ddq[joint],
                                kBrakeShare * limits.acceleration_max[joint], kBrakeShare * limits.jerk_max[joint]);
    duration_s_ = std::max(duration_s_, joints_[joint].duration_s());
  }
}

Motion Brake::at(double seconds) const noexcept {
  Motion motion;
  for (int joint = 0; joint < kJoints; ++joint) {
    const JointBrake::Point point = joints_[joint].at(seconds);
    motion.q[joint] = point.q;
    motion.dq[joint] = point.dq;
    motion.ddq[joint] = point.ddq;
  }
  return motion;
}

bool Brake::stays_inside(const Limits& limits) const noexcept {
  for (int joint = 0; joint < kJoints; ++joint) {
    if (!poco::stays_inside(joints_[joint], limits, joint)) return false;
  }
  return true;
}

}  // namespace poco
