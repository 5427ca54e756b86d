// The one table of servo modes and troubles; src/poco/trouble.py, docs/servo.md and the tests are made from it.
#pragma once

#include <cstdint>

namespace poco {

// X(name, meaning)
#define POCO_MODES(X)                                                              \
  X(disarmed, "holds and ignores chunks until the supervisor arms the servo")      \
  X(holding, "commands a constant pose and waits for a chunk that attaches to it") \
  X(following, "executes the active chunk")                                        \
  X(braking, "runs the jerk-limited stop of every joint")                          \
  X(fault, "holds with a latched fault until an operator recovers")                \
  X(finished, "stopped on request; the motion may be ended")                       \
  X(led, "gives way to the hand that leads the arm, inside joint ends and box")

// X(name, grade, meaning, remedy), in order of rising grade: the highest code of a tick is the one its command reports.
#define POCO_TROUBLES(X)                                                                                               \
  X(chunk_late, dropped, "the chunk arrived after its attach tick", "raise delay_steps or shorten inference")          \
  X(chunk_stale, dropped, "the chunk arrived after its last knot",                                                     \
    "discard queued chunks after a stall and plan from the newest robot state")                                        \
  X(chunk_reordered, dropped, "the chunk carries a lower id than one seen before",                                     \
    "let one policy process publish and count its chunk ids up")                                                       \
  X(chunk_wrong_predecessor, dropped, "the chunk attaches to another chunk than the one in execution",                 \
    "plan the next chunk from the commanded state in the newest robot state")                                          \
  X(chunk_discontinuous, dropped, "the chunk's start differs from the commanded position, velocity or acceleration",   \
    "plan from the predecessor's planned state at the attach tick")                                                    \
  X(chunk_ignored, dropped, "the chunk arrived while the servo was not armed or in fault",                             \
    "arm the servo or recover before publishing chunks")                                                               \
  X(gap_bridged, dropped, "states or commands were lost and the motion could continue inside the limits",              \
    "check the network and the real-time set-up when this happens often")                                              \
  X(chunk_ended, holding, "the active chunk ran to its planned stop without a successor",                              \
    "publish chunks earlier or execute fewer actions of each")                                                         \
  X(gap_not_bridged, holding, "states or commands were lost and continuing would have broken a limit",                 \
    "check the network and the real-time set-up")                                                                      \
  X(lead_exceeded, holding, "the commanded tool tip ran ahead of the measured one by more than the allowed lead",      \
    "free the arm from contact, lower the speed or raise the lead limit")                                              \
  X(supervisor_lost, holding, "the supervisor's heartbeat is missing",                                                 \
    "restart the run; the servo ends the motion after its hold time")                                                  \
  X(chunk_not_finite, latched, "the chunk holds or evaluates to a number that is not finite",                          \
    "check the policy's outputs and its normalisation, then recover")                                                  \
  X(chunk_malformed, latched,                                                                                          \
    "the chunk's ids, knots or continuity break the record's rules or it does not end at rest",                        \
    "publish only chunks made by the planner, then recover")                                                           \
  X(position_limit, latched, "the next command or the chunk would leave a joint's position limits",                    \
    "plan inside the planning margins, then recover")                                                                  \
  X(velocity_limit, latched, "the next command or the chunk would exceed a joint's position-dependent velocity limit", \
    "plan inside the planning margins, then recover")                                                                  \
  X(acceleration_limit, latched, "the next command or the chunk would exceed a joint's acceleration limit",            \
    "plan inside the planning margins, then recover")                                                                  \
  X(jerk_limit, latched, "the next command or the chunk would exceed a joint's jerk limit",                            \
    "plan inside the planning margins, then recover")                                                                  \
  X(no_way_to_stop, latched,                                                                                           \
    "a stop begun on the way, at once or after the longest loss of commands, would leave a joint's position or "       \
    "velocity limits",                                                                                                 \
    "plan slower towards joint limits, then recover")                                                                  \
  X(workspace_box, latched, "the next command or the chunk would move the tool tip out of the workspace box",          \
    "correct the box in the settings or the policy's targets, then recover")                                           \
  X(table_plane, latched, "the next command or the chunk would move the tool tip below the table plane",               \
    "correct the table height in the settings or the policy's targets, then recover")                                  \
  X(tip_speed, latched, "the next command or the chunk would move the tool tip faster than the speed cap",             \
    "plan slower or raise the speed cap, then recover")                                                                \
  X(hold_timeout, latched, "the servo held longer than the hold timeout after it had followed a chunk",                \
    "find out why the policy publishes no valid chunk, then recover")                                                  \
  X(state_not_finite, latched, "the arm reported a number that is not finite",                                         \
    "power-cycle the arm and check the client library, then recover")                                                  \
  X(arm_error, latched, "the arm reported an error or a reflex", "clear the cause at the arm, then recover")           \
  X(user_stopped, latched, "the user stop of the arm was pressed",                                                     \
    "make the place safe, release the stop, then recover")                                                             \
  X(arm_silent, latched, "the arm sent no state for longer than the servo waits",                                      \
    "look at the arm's power, cable and network, then recover")

enum class Mode : int32_t {
#define X(name, meaning) name,
  POCO_MODES(X)
#undef X
};

enum class Trouble : int32_t {
  none,
#define X(name, grade, meaning, remedy) name,
  POCO_TROUBLES(X)
#undef X
};

inline constexpr int kTroubles = 0
#define X(name, grade, meaning, remedy) +1
    POCO_TROUBLES(X);
#undef X

enum class Grade : int32_t { dropped, holding, latched };

enum class Request : int32_t { disarmed, armed, stop, orphaned };

constexpr Grade grade_of(Trouble trouble) noexcept {
  switch (trouble) {
#define X(name, grade, meaning, remedy) \
  case Trouble::name:                   \
    return Grade::grade;
    POCO_TROUBLES(X)
#undef X
    case Trouble::none:
      break;
  }
  return Grade::dropped;
}

}  // namespace poco
