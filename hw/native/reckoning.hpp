// Where the arm's desired motion is, reckoned from what is known of it where states or commands were lost.
#pragma once

#include <algorithm>
#include <cmath>

#include "brake.hpp"

namespace poco {

inline bool all_finite(const Joints& values) noexcept {
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

// A desired motion of the arm's after `ticks` lost commands: it goes on with constant acceleration.
inline Motion extrapolate(Motion motion, int64_t ticks) noexcept {
  for (int64_t tick = 0; tick < ticks; ++tick) {
    for (int j = 0; j < kJoints; ++j) {
      motion.dq[j] += motion.ddq[j] * kTickS;
      motion.q[j] += motion.dq[j] * kTickS;
    }
  }
  return motion;
}

// How far `q` is from the joint positions that the arm reports, over those that are numbers (rad).
inline double distance_where_finite(const Joints& q, const Joints& reported) noexcept {
  double sum = 0;
  for (int j = 0; j < kJoints; ++j) {
    if (std::isfinite(reported[j])) sum += std::abs(q[j] - reported[j]);
  }
  return sum;
}

inline void fill_not_finite(Joints& values, const Joints& substitute) noexcept {
  for (int j = 0; j < kJoints; ++j) {
    if (!std::isfinite(values[j])) values[j] = substitute[j];
  }
}

}  // namespace poco
