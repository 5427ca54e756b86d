"""The policy process of demonstrations by hand-guiding: nothing is planned but the way to the start pose, a hand leads the arm.

Started by the supervisor as `python -m poco.runtime.guided` in the place of `poco.runtime.policy`. The servo lets the hand have the
arm only as long as this process keeps saying so; what else ends it, a verdict, a fault, the end of either process, brakes it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.bounds import bounds_of, reach
from poco.chunks import ChunkSequence
from poco.kinematics import forward
from poco.observation import check_sources
from poco.records import Step
from poco.rollout import Observation, Outcome, Rollout
from poco.runtime.actors import Actions, Actor, Moment
from poco.runtime.led_actions import LedActions
from poco.runtime.policy import PolicyProcess, main
from poco.runtime.recording import LOOK_TICKS
from poco.specification import Specification, scale

Floats = npt.NDArray[np.float64]
State = npt.NDArray[np.void]

LEASE_TICKS = 500
"""So long beyond the next look a hand may lead an arm of which this process has lost sight."""

MOVED_M, MOVED_RAD = 0.002, 0.02
"""By so much a hand has to move or turn the tip for an episode to begin."""

GRIPPER_KEY = "g"


class GuidingActor(Actor):
    """Chooses nothing: a hand leads the arm."""

    generation = 0
    human = True

    def __init__(self, specification: Specification) -> None:
        """Check what is to be recorded; raises ArtifactError."""
        check_sources(specification)
        self._specification = specification

    @property
    def specification(self) -> Specification:
        """That of the task."""
        return self._specification

    @property
    def labels(self) -> dict[str, str]:
        """A demonstration, and how it was given."""
        return {"demonstration": "guiding"}

    def choose(self, moment: Moment) -> Actions:
        """Return actions that are never executed; they rehearse the planner."""
        return np.zeros((self._specification.chunk_steps, self._specification.action_size), np.float32)


class GuidedProcess(PolicyProcess):
    """A run in which a person leads the arm; it goes to the start pose by itself only when the person has said start."""

    _actions: LedActions
    _width_m = float("nan")

    def _open_actor(self) -> Actor:
        return GuidingActor(self.options.specification())

    def _begins(self, episode: int) -> bool:
        """Wait for two starts: one to go to the start pose, one to take the arm there; then for its first motion."""
        if not self.recording.begins(lambda state: True):
            return False
        self._come_inside()
        return super()._begins(episode) and self._taken()

    def _moves(self, episode: int, state: State) -> bool:
        return True

    def _come_inside(self) -> None:
        """Let walls and ends push an arm back that a hand has left where no plan may begin."""
        while not self._may_plan_from(np.array(self.plant.settle()["q_c"])):
            inside = False
            while not inside:
                inside = self._may_plan_from(np.array(self._led(self.plant.tick + LOOK_TICKS)["q"]))
            self._hold()

    def _may_plan_from(self, q: Floats) -> bool:
        bounds = bounds_of(self.limits)
        lower, upper = reach(bounds)
        tip, _ = forward(q, bounds.flange_t_tip)
        return bool(
            np.all(q > lower) and np.all(q < upper) and np.all(tip > bounds.box_min) and np.all(tip < bounds.box_max)
        )

    def _taken(self) -> bool:
        """Give the arm to the hand and wait until it moves; False where the run is to end."""
        self._width_m = self.settings.gripper.start_width_m if self.specification.grips else float("nan")
        self._actions = LedActions(self.specification, np.array(self.plant.settle()["q_c"]))
        while not self.person.quits:
            state = self._led(self.plant.tick + LOOK_TICKS)
            self.book.obey(self.person.said())
            self._grip_or_open()
            if self._actions.moved(np.array(state["q"]), MOVED_M, MOVED_RAD):
                return True
        self._hold()
        return False

    def _led(self, tick: int) -> State:
        """Let a hand lead the arm until `tick` and return its state then."""
        self.memory.lead(tick + LEASE_TICKS, self._width_m)
        return self.plant.wait(tick)

    def _hold(self) -> None:
        """Take the arm back: it brakes and is held."""
        self.memory.lead(0)

    def _grip_or_open(self) -> None:
        """Close or open the gripper where its key was pressed."""
        pressed = self.person.keys()
        if GRIPPER_KEY in pressed and self.specification.grips:
            self._width_m = 0.0 if self._width_m > 0.0 else self.settings.gripper.start_width_m

    def _act(
        self, rollout: Rollout, sequence: ChunkSequence, observation: Observation, episode: int
    ) -> tuple[list[Step], Outcome]:
        """Watch period after period how the hand leads the arm until the episode is over; return its steps and how it ended."""
        steps: list[Step] = []
        outcome: Outcome = "running"
        while outcome == "running":
            if not self._clear():
                self._hold()
                outcome, _ = rollout.hold()
                continue
            self.memory.lead(self.plant.tick + sequence.period_ticks + LEASE_TICKS, self._width_m)
            led, outcome = rollout.be_led(self._action)
            self._grip_or_open()
            self.journal.record(led, self.eyes)
            steps += led
        self._hold()
        return steps, outcome

    def _action(self, after: State) -> Floats:
        """Return the action [action_size] that would have led to `after`, in action units."""
        arm = self._actions.next(np.array(after["q"]))
        return np.append(arm, scale(self.specification.action[-1:], self._width_m)) if self.specification.grips else arm


if __name__ == "__main__":
    main(GuidedProcess)
