// The records of src/poco/records.py as C++ structs; tests/test_records.py compares both offset by offset.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace poco {

inline constexpr int64_t kSchemaVersion = 1;
inline constexpr int kJoints = 7;
inline constexpr int kMaxSegments = 512;
inline constexpr int kEventCodes = 32;
inline constexpr double kTickS = 1e-3;
inline constexpr double kTicksPerS = 1e3;

using Joints = std::array<double, kJoints>;
using Pose = std::array<double, 16>;

struct ArmState {
  int64_t tick;
  int64_t received_ns;
  Joints q, dq, tau, tau_ext, q_d, dq_d, ddq_d;
  Pose O_T_EE;
  int32_t robot_mode, errors;
};

struct RobotState {
  int64_t tick, t_ns;
  Joints q, dq, tau, tau_ext, q_c, dq_c, ddq_c;
  Pose O_T_EE;
  int64_t chunk_id, generation;
  int32_t mode, fault;
  double gripper_width;
};

struct GripperState {
  int64_t t_ns, tick;
  double width, max_width, target;
  int32_t moving, grasped;
};

struct ChunkSpline {
  int64_t chunk_id, generation, predecessor_id, attach_tick, segments;
  std::array<int64_t, kMaxSegments + 1> knots;
  std::array<std::array<Joints, 6>, kMaxSegments> coefficients;
  std::array<double, kMaxSegments> gripper;
};

struct Limits {
  Joints position_min, position_max, velocity_max, velocity_offset, deceleration, acceleration_max, jerk_max;
  double velocity_scale;
  std::array<double, 3> box_min, box_max;
  double table_z, speed_max, lead_max_m, lead_max_rad;
  Pose flange_t_tip;
  int64_t hold_timeout_ticks;
};

enum class LawKind : int64_t { position, joint_impedance, cartesian_impedance, guiding };

struct Law {
  int64_t kind;
  Joints stiffness, damping;
  std::array<double, 6> tip_stiffness, tip_damping;
  std::array<double, 3> upright;
  Joints torque_max, torque_step_max;
};

struct Command {
  Joints q, dq, ddq;
  int64_t chunk_id, generation;
  int32_t mode, fault, event, finished;
};

struct Tick {
  ArmState state;
  Command command;
  int64_t sent_ns, period_ns, cpu_ns;
  int32_t waits, preemptions, minor_faults, major_faults;
};

struct FrameHead {
  int64_t number, t_ns, received_ns, tick, repeats;
  std::array<char, 32> serial;
};

// What servo and supervisor tell each other; every field has one writer except wake_tick (any waiter lowers it).
struct Control {
  std::atomic<int64_t> request, recoveries, supervisor_ns;                  // supervisor -> servo
  std::atomic<int64_t> policy_ns;                                           // policy -> supervisor, servo
  std::atomic<int64_t> led_until;                                           // policy -> servo
  std::atomic<double> led_width;                                            // policy -> gripper
  std::atomic<int64_t> servo_pid, servo_ns, tick, finished, ticks_dropped;  // servo -> all
  std::atomic<int64_t> wake_tick;                                           // waiters -> servo
  std::atomic<uint32_t> wake_word, alarms;                                  // futex; troubles without a tick
  std::array<std::atomic<int64_t>, kEventCodes> event_counts;               // servo -> all
};

}  // namespace poco
