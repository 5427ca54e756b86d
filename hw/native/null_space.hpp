// The few products and the one projection that a law at the tool tip needs of its Jacobian.
#pragma once

#include "records.hpp"

namespace poco {

using Twist = std::array<double, 6>;
using Jacobian = std::array<Joints, 6>;  // rows: translation (m/rad), rotation

Twist times(const Jacobian& jacobian, const Joints& joints) noexcept;
Joints transposed_times(const Jacobian& jacobian, const Twist& wrench) noexcept;

// The part of `torque` that makes no wrench at the tip: torque - J^T (J J^T + d I)^-1 J torque, with a little damping d
// so that near a singularity the part gets smaller and not larger.
Joints in_null_space(const Jacobian& jacobian, const Joints& torque) noexcept;

}  // namespace poco
