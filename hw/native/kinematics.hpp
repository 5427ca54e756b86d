// Forward kinematics of the FR3 to the tool tip.
#pragma once

#include "records.hpp"

namespace poco {

struct Tip {
  std::array<double, 3> position;                // m, base frame
  std::array<std::array<double, 3>, 3> columns;  // axes of the tip frame in the base frame
};

Tip tip_of(const Joints& q, const Pose& flange_t_tip) noexcept;
double distance_m(const Tip& a, const Tip& b) noexcept;
double angle_rad(const Tip& a, const Tip& b) noexcept;

}  // namespace poco
