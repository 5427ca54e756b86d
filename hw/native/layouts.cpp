#include "layouts.hpp"

#include <string>

#include "records.hpp"

namespace poco {

#define FIELD(record, field) \
  FieldLayout { #field, offsetof(record, field), sizeof(record::field) }

const std::vector<RecordLayout>& layouts() {
  static const std::vector<RecordLayout> all = {
      {"ARM_STATE",
       sizeof(ArmState),
       {FIELD(ArmState, tick), FIELD(ArmState, received_ns), FIELD(ArmState, q), FIELD(ArmState, dq),
        FIELD(ArmState, tau), FIELD(ArmState, tau_ext), FIELD(ArmState, q_d), FIELD(ArmState, dq_d),
        FIELD(ArmState, ddq_d), FIELD(ArmState, O_T_EE), FIELD(ArmState, robot_mode), FIELD(ArmState, errors)}},
      {"ROBOT_STATE",
       sizeof(RobotState),
       {FIELD(RobotState, tick), FIELD(RobotState, t_ns), FIELD(RobotState, q), FIELD(RobotState, dq),
        FIELD(RobotState, tau), FIELD(RobotState, tau_ext), FIELD(RobotState, q_c), FIELD(RobotState, dq_c),
        FIELD(RobotState, ddq_c), FIELD(RobotState, O_T_EE), FIELD(RobotState, chunk_id), FIELD(RobotState, generation),
        FIELD(RobotState, mode), FIELD(RobotState, fault), FIELD(RobotState, gripper_width)}},
      {"GRIPPER_STATE",
       sizeof(GripperState),
       {FIELD(GripperState, t_ns), FIELD(GripperState, tick), FIELD(GripperState, width),
        FIELD(GripperState, max_width), FIELD(GripperState, target), FIELD(GripperState, moving),
        FIELD(GripperState, grasped)}},
      {"CHUNK_SPLINE",
       sizeof(ChunkSpline),
       {FIELD(ChunkSpline, chunk_id), FIELD(ChunkSpline, generation), FIELD(ChunkSpline, predecessor_id),
        FIELD(ChunkSpline, attach_tick), FIELD(ChunkSpline, segments), FIELD(ChunkSpline, knots),
        FIELD(ChunkSpline, coefficients), FIELD(ChunkSpline, gripper)}},
      {"LIMITS",
       sizeof(Limits),
       {FIELD(Limits, position_min), FIELD(Limits, position_max), FIELD(Limits, velocity_max),
        FIELD(Limits, velocity_offset), FIELD(Limits, deceleration), FIELD(Limits, acceleration_max),
        FIELD(Limits, jerk_max), FIELD(Limits, velocity_scale), FIELD(Limits, box_min), FIELD(Limits, box_max),
        FIELD(Limits, table_z), FIELD(Limits, speed_max), FIELD(Limits, lead_max_m), FIELD(Limits, lead_max_rad),
        FIELD(Limits, flange_t_tip), FIELD(Limits, hold_timeout_ticks)}},
      {"LAW",
       sizeof(Law),
       {FIELD(Law, kind), FIELD(Law, stiffness), FIELD(Law, damping), FIELD(Law, tip_stiffness),
        FIELD(Law, tip_damping), FIELD(Law, upright), FIELD(Law, torque_max), FIELD(Law, torque_step_max)}},
      {"COMMAND",
       sizeof(Command),
       {FIELD(Command, q), FIELD(Command, dq), FIELD(Command, ddq), FIELD(Command, chunk_id),
        FIELD(Command, generation), FIELD(Command, mode), FIELD(Command, fault), FIELD(Command, event),
        FIELD(Command, finished)}},
      {"TICK",
       sizeof(Tick),
       {FIELD(Tick, state), FIELD(Tick, command), FIELD(Tick, sent_ns), FIELD(Tick, period_ns), FIELD(Tick, cpu_ns),
        FIELD(Tick, waits), FIELD(Tick, preemptions), FIELD(Tick, minor_faults), FIELD(Tick, major_faults)}},
      {"CONTROL",
       sizeof(Control),
       {FIELD(Control, request), FIELD(Control, recoveries), FIELD(Control, supervisor_ns), FIELD(Control, policy_ns),
        FIELD(Control, led_until), FIELD(Control, led_width), FIELD(Control, servo_pid), FIELD(Control, servo_ns),
        FIELD(Control, tick), FIELD(Control, finished), FIELD(Control, ticks_dropped), FIELD(Control, wake_tick),
        FIELD(Control, wake_word), FIELD(Control, alarms), FIELD(Control, event_counts)}},
      {"FRAME_HEAD",
       sizeof(FrameHead),
       {FIELD(FrameHead, number), FIELD(FrameHead, t_ns), FIELD(FrameHead, received_ns), FIELD(FrameHead, tick),
        FIELD(FrameHead, repeats), FIELD(FrameHead, serial)}},
  };
  return all;
}

#undef FIELD

uint64_t layout_hash() {
  uint64_t hash = 14695981039346656037u;
  const auto mix = [&hash](const std::string& text) {
    for (const char letter : text) hash = (hash ^ static_cast<uint8_t>(letter)) * 1099511628211u;
  };
  for (const RecordLayout& record : layouts()) {
    mix(record.name + std::to_string(record.bytes));
    for (const FieldLayout& field : record.fields) {
      mix(field.name + std::to_string(field.offset) + ":" + std::to_string(field.bytes));
    }
  }
  return hash;
}

}  // namespace poco
