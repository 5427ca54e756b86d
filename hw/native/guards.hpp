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

// Inside workspace box, table plane, speed cap and lead of the commanded over the measured tip.
Trouble check_tip(const Motion& candidate, const Sent& sent, const Joints& measured_q, const Limits& limits) noexcept;

}  // namespace poco
