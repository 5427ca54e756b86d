// step(): from the arm's state and the newest chunk to the command of this tick. Pure, no heap, never throws.
#pragma once

#include <limits>

#include "brake.hpp"
#include "chunk.hpp"
#include "kinematics.hpp"
#include "trouble.hpp"

namespace poco {

static_assert(kTroubles < kEventCodes);

// Where the commanded motion comes from.
enum class Plan : int32_t { hold, chunk, brake, led };

// Everything step() remembers from tick to tick. A plain value: a copy replays.
struct Memory {
  bool anchored = false;
  int64_t tick = 0;
  Trouble fault = Trouble::none;
  Command command{};  // of `tick`

  Plan plan = Plan::hold;
  Motion commanded{};            // continuous commanded state at `tick`
  Motion desired{};              // the arm's own set-point as it reports it, in backward differences
  Joints sent_dq{}, sent_ddq{};  // backward differences of the commands up to `tick`
  Brake brake;
  int64_t brake_tick = 0;  // when the brake began

  std::array<ChunkSpline, 2> chunks{};  // one active, the other pending
  int active = 0;
  int64_t segment = 0;  // of the active chunk, moves forward
  bool pending = false;
  int64_t presented_id = std::numeric_limits<int64_t>::min(), seen_id = 0;  // last chunk offered, last one valid

  bool model_finite = true;   // what torques were made of in the tick before; always where set-points move the arm
  bool has_followed = false;  // since arming or recovery
  int64_t holding_ticks = 0;
  int64_t recoveries = 0;
  Request request = Request::disarmed;
  std::array<int64_t, kEventCodes> event_counts{};

  const ChunkSpline& active_chunk() const noexcept { return chunks[active]; }
  ChunkSpline& pending_chunk() noexcept { return chunks[1 - active]; }
};

// `newest` may be null and may be the same chunk on many ticks; `recoveries` counts the operator's acts of recovery.
Command step(const ArmState& state, const ChunkSpline* newest, Request request, int64_t recoveries,
             const Limits& limits, Memory& memory) noexcept;

// Makes `state` say of the desired motion what an arm would say that follows the plan: one that is moved by torques
// reports no desired motion of its own. Without a plan, after a start or a long gap, it rests where it is measured.
void report_planned(ArmState& state, const Limits& limits, Memory& memory) noexcept;

// Before step(): lets an armed hold be wherever a hand leads the arm as long as it is `led`, then brakes from the
// motion that the arm has.
void give_way(const ArmState& state, bool led, const Limits& limits, Memory& memory) noexcept;

// The hold so far does not count: its timeout begins now.
inline void hold_anew(Memory& memory) noexcept { memory.holding_ticks = 0; }

// Latches a device failure that was noticed outside of step() and forgets the motion.
void latch_outside_of_step(Memory& memory, Trouble trouble) noexcept;

// Forgets chunks and commanded motion, so that the next tick starts from the arm's own state; faults and counters stay.
void reanchor(Memory& memory) noexcept;

}  // namespace poco
