#include "kinematics.hpp"

#include <algorithm>
#include <cmath>

namespace poco {
namespace {

using Vector3 = std::array<double, 3>;

// Joint frames in their parents (Denavit-Hartenberg, Craig): x and y-z offset (m), quarter turns about x, then joint
// about z.
struct JointFrame {
  Vector3 offset;
  int quarter_turns;
};
constexpr std::array<JointFrame, kJoints> kFrames = {{{{0, 0, 0.333}, 0},
                                                      {{0, 0, 0}, -1},
                                                      {{0, -0.316, 0}, 1},
                                                      {{0.0825, 0, 0}, 1},
                                                      {{-0.0825, 0.384, 0}, -1},
                                                      {{0, 0, 0}, 1},
                                                      {{0.088, 0, 0}, 1}}};
constexpr double kFlangeM = 0.107;

Vector3 combine(const Tip& tip, const Vector3& v) noexcept {
  Vector3 sum;
  for (int i = 0; i < 3; ++i) sum[i] = tip.columns[0][i] * v[0] + tip.columns[1][i] * v[1] + tip.columns[2][i] * v[2];
  return sum;
}

void move_along(Tip& tip, const Vector3& v) noexcept {
  const Vector3 shift = combine(tip, v);
  for (int i = 0; i < 3; ++i) tip.position[i] += shift[i];
}

}  // namespace

Tip tip_of(const Joints& q, const Pose& flange_t_tip) noexcept {
  Tip tip{{0, 0, 0}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}};
  auto& [x, y, z] = tip.columns;
  for (int joint = 0; joint < kJoints; ++joint) {
    move_along(tip, kFrames[joint].offset);
    const double turn = kFrames[joint].quarter_turns;
    const double c = std::cos(q[joint]), s = std::sin(q[joint]);
    for (int i = 0; i < 3; ++i) {
      const double turned_y = turn == 0 ? y[i] : turn * z[i];
      z[i] = turn == 0 ? z[i] : -turn * y[i];
      const double old_x = x[i];
      x[i] = c * old_x + s * turned_y;
      y[i] = c * turned_y - s * old_x;
    }
  }
  move_along(tip, {0, 0, kFlangeM});
  move_along(tip, {flange_t_tip[3], flange_t_tip[7], flange_t_tip[11]});
  const Tip flange = tip;
  for (int k = 0; k < 3; ++k) {
    tip.columns[k] = combine(flange, {flange_t_tip[k], flange_t_tip[4 + k], flange_t_tip[8 + k]});
  }
  return tip;
}

double distance_m(const Tip& a, const Tip& b) noexcept {
  return std::hypot(a.position[0] - b.position[0], a.position[1] - b.position[1], a.position[2] - b.position[2]);
}

double angle_rad(const Tip& a, const Tip& b) noexcept {
  double squared_sines = 0;  // |R_a - R_b|_F^2 = 8 sin^2(angle / 2), accurate at small angles too
  for (int k = 0; k < 3; ++k) {
    for (int i = 0; i < 3; ++i) {
      const double difference = a.columns[k][i] - b.columns[k][i];
      squared_sines += difference * difference;
    }
  }
  return 2 * std::asin(std::min(1.0, std::sqrt(squared_sines / 8)));
}

}  // namespace poco
