// Validation and evaluation of a ChunkSpline.
#pragma once

#include "brake.hpp"
#include "trouble.hpp"

namespace poco {

// Where two pieces of motion meet they may differ by this much in position, velocity and acceleration.
inline constexpr double kSeamRad = 1e-8, kSeamRadS = 1e-5, kSeamRadS2 = 1e-2;

// Longest chunk and latest attach tick that are believed (ticks).
inline constexpr int64_t kChunkTicksMax = 1'000'000, kTickMax = int64_t{1} << 53;

// The whole chunk at once: finite numbers, ordered knots, C2 between segments, jerk inside the limits, rest at the end.
Trouble examine(const ChunkSpline& chunk, const Limits& limits) noexcept;

bool meets(const Motion& a, const Motion& b) noexcept;

inline int64_t ticks_of(const ChunkSpline& chunk) noexcept { return chunk.knots[chunk.segments]; }

// Planned motion `ticks` after the attach tick; at and after the last knot: rest. `segment` is the search's starting
// point and is moved forward.
Motion evaluate(const ChunkSpline& chunk, int64_t ticks, int64_t& segment) noexcept;

// Copies what the chunk's number of segments makes meaningful.
void copy_used(const ChunkSpline& from, ChunkSpline& to) noexcept;

}  // namespace poco
