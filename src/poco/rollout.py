"""One episode of a chunk policy, the same code for the gymnasium environment and for the robot: plan, publish, wait, record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from poco.chunks import ChunkSequence, Period
from poco.motion import Plan, executed_action
from poco.observation import observe
from poco.records import EpisodeEnd, Step, StepKey, TaskSignal
from poco.specification import Specification, scale
from poco.trouble import Mode

Floats = npt.NDArray[np.float64]
Observation = npt.NDArray[np.float32]
State = npt.NDArray[np.void]
Look = Callable[[State, TaskSignal, Specification], Observation]
Outcome = Literal["running", "success", "failure", "truncated", "fault"]

RESUME_POLL_TICKS = 10
RESUME_LIMIT_TICKS = 5_000


class Plant(Protocol):
    """The arm with its task, as an episode sees it."""

    def wait(self, tick: int) -> State:
        """Run, or wait, until robot tick `tick` has been commanded; return the ROBOT_STATE record then (or of a later tick)."""
        ...

    def publish(self, spline: State) -> None:
        """Offer a CHUNK_SPLINE record to the servo."""
        ...

    def signal(self) -> TaskSignal:
        """Return the task signal of the current robot tick."""
        ...


@dataclass(frozen=True, slots=True)
class Transition:
    """What one chunk led to: the steps whose periods ended, the next observation, how the episode stands."""

    steps: tuple[Step, ...]
    observation: Observation
    outcome: Outcome
    plan: Plan
    interrupted: bool


class Rollout:
    """Runs chunk after chunk on a Plant and writes a Step for every control period; one instance an episode.

    `look` makes the observation at each observation tick; `clear` tells whether the newest one may be acted on. As soon as it may
    not, the arm is brought to rest, and what is observed there is for the caller to judge. `seen` hears the number of the
    step that begins with each observation, after a rest the same one again. Of a gripper, which takes its own time, a Step says as
    executed what it was told, or its width where the arm holds.
    """

    def __init__(
        self,
        plant: Plant,
        sequence: ChunkSequence,
        *,
        robot: str,
        boot_epoch: int,
        episode: int,
        episode_steps: int,
        look: Look = observe,
        clear: Callable[[], bool] = lambda: True,
        seen: Callable[[int], None] = lambda step: None,
    ) -> None:
        self._plant = plant
        self._sequence = sequence
        self._robot, self._boot_epoch, self._episode = robot, boot_epoch, episode
        self._episode_steps = episode_steps
        self._observe, self._clear, self._seen = look, clear, seen
        self._count = 0
        self._state: State
        self._signal: TaskSignal
        self._observation: Observation

    @property
    def state(self) -> State:
        """The ROBOT_STATE record that the newest observation was made from."""
        return self._state

    @property
    def signal(self) -> TaskSignal:
        """The task signal that the newest observation was made from."""
        return self._signal

    def begin(self, tick: int) -> Observation:
        """Start the episode from rest at robot tick `tick`; return the first observation."""
        self._rest(self._plant.wait(tick))
        return self._observation

    def step(
        self,
        actions: npt.ArrayLike,
        meanwhile: Callable[[Plan], None] | None = None,
        yields: Callable[[], bool] = lambda: False,
    ) -> Transition:
        """Plan and publish the chunk `actions` [chunk_steps, action_size]; run on to the next observation tick.

        `meanwhile` is called with the plan once it is published, when nothing waits for this process; it must be quick. `yields`
        is asked at the end of every control period whether somebody wants to choose anew at once.
        """
        plan, periods = self._sequence.plan(actions)
        if not plan.usable:
            if not np.all(np.isfinite(actions)):
                self._plant.publish(_not_finite(plan.spline))
            outcome, observation = self.hold()
            return Transition((), observation, outcome, plan, True)
        self._plant.publish(plan.spline)
        if meanwhile is not None:
            meanwhile(plan)
        steps: list[Step] = []
        outcome = "running"
        interrupted = False
        for done, period in enumerate(periods, start=1):
            after = self._plant.wait(period.end_tick)
            signal = self._plant.signal()
            if self._saw(period, after):
                steps.append(self._record(period, after, signal, self._executed(period, after)))
            self._count += 1
            self._look(after, signal)
            outcome, interrupted = self._judge(after, period)
            if outcome == "running" and not interrupted and not self._clear():
                self.stop()
                interrupted = True
            if outcome != "running" or interrupted:
                break
            if done < len(periods) and yields():
                self._sequence.cut(done)
                break
        if interrupted and outcome == "running":
            outcome = self._resume()
        return Transition(tuple(steps), self._observation, outcome, plan, interrupted)

    def be_led(self, asked: Callable[[State], Floats]) -> tuple[tuple[Step, ...], Outcome]:
        """Give no chunk and run on for one control period, in which a hand leads the arm; return its step and the outcome so far.

        `asked` tells of the state at its end which action [action_size] would have led there; nobody else asked for anything.
        """
        tick = int(self._state["tick"])
        period = Period(
            tick, tick + self._sequence.period_ticks, None, 0, self._sequence.generation, self._sequence.human
        )
        after = self._plant.wait(period.end_tick)
        signal = self._plant.signal()
        action = asked(after)
        steps = (self._record(period, after, signal, action),) if self._saw(period, after) else ()
        self._count += 1
        self._look(after, signal)
        outcome, _ = self._judge(after, period)
        return steps, outcome

    def hold(self) -> tuple[Outcome, Observation]:
        """Give no chunk: let the arm come to rest and observe anew; return outcome so far and that observation."""
        return self._resume(), self._observation

    def stop(self) -> None:
        """Bring the arm to rest where it is instead of finishing the last chunk; call it when the episode has ended."""
        plan = self._sequence.stop(int(self._state["tick"]))
        if plan is not None and plan.usable:
            self._plant.publish(plan.spline)

    def end(self, outcome: Outcome) -> EpisodeEnd:
        """Return the record that closes the episode with `outcome`."""
        return EpisodeEnd(
            robot=self._robot,
            boot_epoch=self._boot_epoch,
            episode=self._episode,
            tick=int(self._state["tick"]),
            final_observation=[float(value) for value in self._observation],
            outcome="success" if outcome == "success" else "failure",
            terminated=outcome in ("success", "failure", "fault"),
            truncated=outcome == "truncated",
            labels={"reason": outcome},
        )

    def _executed(self, period: Period, after: State) -> Floats:
        """Return the action [action_size], in action units, that the commanded motion of `period` was."""
        specification = self._sequence.specification
        if specification.action_space == "tip_delta":
            executed = executed_action(self._state["q_c"], after["q_c"], specification.tip)
        else:
            executed = after["q_c"]
        if specification.grips:
            executed = np.append(executed, after["gripper_width"])
        executed = scale(specification.action, executed)
        if specification.grips and period.action is not None:
            executed[-1] = np.clip(period.action[-1], -1.0, 1.0)
        return executed

    def _record(self, period: Period, after: State, signal: TaskSignal, executed: Floats) -> Step:
        asked = executed if period.action is None else period.action
        return Step(
            key=StepKey(self._robot, self._boot_epoch, self._episode, self._count),
            tick=int(self._state["tick"]),
            generation=period.generation,
            chunk_id=period.chunk_id,
            observation=[float(value) for value in self._observation],
            action_policy=[float(value) for value in asked],
            action_executed=[float(value) for value in executed],
            reward=1.0 if signal.outcome == "success" else 0.0,
            intervened=period.human,
        )

    def _saw(self, period: Period, after: State) -> bool:
        """Tell whether both ends of `period` were observed when they came: whoever stood still has no Step to tell of."""
        late = max(int(self._state["tick"]) - period.start_tick, int(after["tick"]) - period.end_tick)
        return late <= (period.end_tick - period.start_tick) / 2

    def _look(self, state: State, signal: TaskSignal) -> None:
        self._state, self._signal = state, signal
        self._observation = self._observe(state, signal, self._sequence.specification)
        self._seen(self._count)

    def _rest(self, state: State) -> None:
        """Go on from `state`, in which the arm is held."""
        self._sequence.begin(int(state["tick"]), state["q_c"])
        self._look(state, self._plant.signal())

    def _judge(self, after: State, period: Period) -> tuple[Outcome, bool]:
        mode = Mode(int(after["mode"]))
        if mode == Mode.FAULT:
            return "fault", True
        if self._signal.outcome in ("success", "failure"):
            return ("success" if self._signal.outcome == "success" else "failure"), False
        if self._count >= self._episode_steps:
            return "truncated", False
        if mode == Mode.FOLLOWING:
            return "running", int(after["chunk_id"]) not in (period.chunk_id, self._sequence.last_chunk_id)
        return "running", mode != Mode.HOLDING or period.action is not None

    def _resume(self) -> Outcome:
        """Wait for the servo to hold, then start again from rest at its commanded state."""
        first = int(self._state["tick"])
        while True:
            self._state = self._plant.wait(int(self._state["tick"]) + RESUME_POLL_TICKS)
            mode = Mode(int(self._state["mode"]))
            if mode == Mode.HOLDING:
                break
            if mode == Mode.FAULT or int(self._state["tick"]) - first > RESUME_LIMIT_TICKS:
                return "fault"
        self._rest(self._state)
        return "running"


def _not_finite(spline: State) -> State:
    """Return the refused `spline` as a chunk for which the servo latches a fault that says why and names the generation."""
    told = spline.copy()
    told["segments"], told["knots"][1], told["coefficients"][0] = 1, 1, np.nan
    return told
