// What a candidate command must pass before it may be sent.
#pragma once

#include "step.hpp"

namespace poco {

// Last command and its backward differences: position (rad), velocity (rad/s), acceleration (rad/s^2).
struct Sent {
  const Joints &q, &dq, &ddq;
};

// Backward differences of command `q` after the commands in `sent`.
Motion differentiate(const Joints& q, const Sent& sent) noexcept;

// Finite, inside the joint limits in its planned and in its sent derivatives.
Trouble check_joints(const Motion& candidate, const Sent& sent, const Limits& limits) noexcept;

// A stop from here stays inside the joint limits, and so does, in the arm's own velocity limits, one that begins only
// after the arm has extrapolated the most commands that may get lost.
Trouble check_stop(const Motion& candidate, const Limits& limits) noexcept;

// Inside workspace box, table plane, speed cap and lead of the commanded over the measured tip.
Trouble check_tip(const Motion& candidate, const Sent& sent, const Joints& measured_q, const Limits& limits) noexcept;

// The whole chunk before any of it is executed: as a record (chunk.hpp), and its motion at up to 129 instants with the
// checks above. What a breach between two instants would exceed is left to the checks of every tick.
Trouble examine_motion(const ChunkSpline& chunk, const Limits& limits) noexcept;

}  // namespace poco
