// Position limits and the position-dependent velocity limits of a joint, as in poco.limits.VelocityEnvelope.
#pragma once

#include <algorithm>
#include <cmath>

#include "records.hpp"

namespace poco {

inline bool inside_positions(double q, const Limits& limits, int joint) noexcept {
  return q >= limits.position_min[joint] && q <= limits.position_max[joint];
}

// Largest speed (rad/s) towards a position limit that is `distance` rad away.
inline double speed_towards_limit(double distance, const Limits& limits, int joint) noexcept {
  const double reachable = std::sqrt(std::max(0.0, 2 * limits.deceleration[joint] * distance));
  return std::min(limits.velocity_max[joint],
                  limits.velocity_scale * std::max(0.0, reachable - limits.velocity_offset[joint]));
}

inline bool inside_envelope(double q, double dq, const Limits& limits, int joint) noexcept {
  const double distance = dq > 0 ? limits.position_max[joint] - q : q - limits.position_min[joint];
  return dq == 0 || std::abs(dq) <= speed_towards_limit(distance, limits, joint);
}

}  // namespace poco
