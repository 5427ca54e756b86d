#include "null_space.hpp"

#include <cmath>

namespace poco {
namespace {

constexpr double kDamping = 1e-6;

using Square = std::array<Twist, 6>;

// Solves A x = b for symmetric positive definite A by Cholesky's decomposition.
Twist solve(Square a, Twist b) noexcept {
  for (int i = 0; i < 6; ++i) {
    for (int j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (int k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      a[i][j] = i == j ? std::sqrt(sum) : sum / a[j][j];
    }
  }
  for (int i = 0; i < 6; ++i) {
    for (int k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (int i = 5; i >= 0; --i) {
    for (int k = i + 1; k < 6; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return b;
}

}  // namespace

Twist times(const Jacobian& jacobian, const Joints& joints) noexcept {
  Twist product{};
  for (int i = 0; i < 6; ++i) {
    for (int j = 0; j < kJoints; ++j) product[i] += jacobian[i][j] * joints[j];
  }
  return product;
}

Joints transposed_times(const Jacobian& jacobian, const Twist& wrench) noexcept {
  Joints product{};
  for (int i = 0; i < 6; ++i) {
    for (int j = 0; j < kJoints; ++j) product[j] += jacobian[i][j] * wrench[i];
  }
  return product;
}

Joints in_null_space(const Jacobian& jacobian, const Joints& torque) noexcept {
  Square gram{};
  for (int i = 0; i < 6; ++i) {
    for (int k = 0; k < 6; ++k) {
      for (int j = 0; j < kJoints; ++j) gram[i][k] += jacobian[i][j] * jacobian[k][j];
    }
    gram[i][i] += kDamping;
  }
  const Joints felt = transposed_times(jacobian, solve(gram, times(jacobian, torque)));
  Joints rest;
  for (int j = 0; j < kJoints; ++j) rest[j] = torque[j] - felt[j];
  return rest;
}

}  // namespace poco
