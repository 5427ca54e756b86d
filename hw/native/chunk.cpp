#include "chunk.hpp"

#include <algorithm>
#include <cmath>

namespace poco {
namespace {

using Segment = std::array<Joints, 6>;

Motion evaluate_segment(const Segment& c, double s) noexcept {
  Motion motion;
  for (int j = 0; j < kJoints; ++j) {
    motion.q[j] = c[0][j] + s * (c[1][j] + s * (c[2][j] + s * (c[3][j] + s * (c[4][j] + s * c[5][j]))));
    motion.dq[j] = c[1][j] + s * (2 * c[2][j] + s * (3 * c[3][j] + s * (4 * c[4][j] + s * 5 * c[5][j])));
    motion.ddq[j] = 2 * c[2][j] + s * (6 * c[3][j] + s * (12 * c[4][j] + s * 20 * c[5][j]));
  }
  return motion;
}

// Largest jerk of a quintic on [0, duration]: at an end or where its derivative vanishes.
double peak_jerk(const Segment& c, int j, double duration) noexcept {
  const auto jerk = [&](double s) { return std::abs(6 * c[3][j] + s * (24 * c[4][j] + s * 60 * c[5][j])); };
  const double turning = c[5][j] != 0 ? std::clamp(-c[4][j] / (5 * c[5][j]), 0.0, duration) : 0.0;
  return std::max({jerk(0), jerk(duration), jerk(turning)});
}

bool all_finite(const Segment& c) noexcept {
  return std::all_of(c.begin(), c.end(), [](const Joints& power) {
    return std::all_of(power.begin(), power.end(), [](double value) { return std::isfinite(value); });
  });
}

bool knots_ordered(const ChunkSpline& chunk) noexcept {
  if (chunk.knots[0] != 0) return false;
  for (int64_t k = 0; k < chunk.segments; ++k) {
    if (chunk.knots[k + 1] <= chunk.knots[k] || chunk.knots[k + 1] > kChunkTicksMax) return false;
  }
  return true;
}

double duration_s(const ChunkSpline& chunk, int64_t k) noexcept {
  return static_cast<double>(chunk.knots[k + 1] - chunk.knots[k]) * kTickS;
}

}  // namespace

Trouble examine(const ChunkSpline& chunk, const Limits& limits) noexcept {
  if (chunk.segments < 1 || chunk.segments > kMaxSegments) return Trouble::chunk_malformed;
  for (int64_t k = 0; k < chunk.segments; ++k) {
    if (!all_finite(chunk.coefficients[k]) || std::isinf(chunk.gripper[k])) return Trouble::chunk_not_finite;
  }
  if (chunk.chunk_id < 1 || chunk.predecessor_id < 0 || chunk.predecessor_id >= chunk.chunk_id ||
      chunk.attach_tick < 0 || chunk.attach_tick > kTickMax || !knots_ordered(chunk)) {
    return Trouble::chunk_malformed;
  }
  for (int64_t k = 0; k < chunk.segments; ++k) {
    Motion end = evaluate_segment(chunk.coefficients[k], duration_s(chunk, k));
    Motion next = k + 1 < chunk.segments ? evaluate_segment(chunk.coefficients[k + 1], 0) : Motion{end.q, {}, {}};
    if (!meets(end, next)) return Trouble::chunk_malformed;
  }
  for (int64_t k = 0; k < chunk.segments; ++k) {
    for (int j = 0; j < kJoints; ++j) {
      if (!(peak_jerk(chunk.coefficients[k], j, duration_s(chunk, k)) <= limits.jerk_max[j])) {
        return Trouble::jerk_limit;
      }
    }
  }
  return Trouble::none;
}

bool meets(const Motion& a, const Motion& b) noexcept {
  for (int j = 0; j < kJoints; ++j) {
    if (!(std::abs(a.q[j] - b.q[j]) <= kSeamRad && std::abs(a.dq[j] - b.dq[j]) <= kSeamRadS &&
          std::abs(a.ddq[j] - b.ddq[j]) <= kSeamRadS2)) {
      return false;
    }
  }
  return true;
}

Motion evaluate(const ChunkSpline& chunk, int64_t ticks, int64_t& segment) noexcept {
  while (segment + 1 < chunk.segments && ticks >= chunk.knots[segment + 1]) ++segment;
  const int64_t since_knot = std::min(ticks, ticks_of(chunk)) - chunk.knots[segment];
  Motion motion = evaluate_segment(chunk.coefficients[segment], static_cast<double>(since_knot) * kTickS);
  if (ticks >= ticks_of(chunk)) motion.dq = motion.ddq = {};
  return motion;
}

void copy_used(const ChunkSpline& from, ChunkSpline& to) noexcept {
  to.chunk_id = from.chunk_id;
  to.generation = from.generation;
  to.predecessor_id = from.predecessor_id;
  to.attach_tick = from.attach_tick;
  to.segments = from.segments;
  std::copy_n(from.knots.begin(), from.segments + 1, to.knots.begin());
  std::copy_n(from.coefficients.begin(), from.segments, to.coefficients.begin());
  std::copy_n(from.gripper.begin(), from.segments, to.gripper.begin());
}

}  // namespace poco
