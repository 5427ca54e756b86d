"""A person takes over from a policy and gives back at random: inside all limits, at once, and recorded as what it was."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from oracle import Share, judge
from poco.chunks import ChunkSequence
from poco.hw.devices.device import Device, Reading
from poco.hw.emulator.tasks.peg_in_hole import GUARDS, PegInHole, parameters
from poco.hw.emulator.tasks.plant import SimulatedPlant
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, fr3_limits
from poco.records import Step
from poco.rollout import Rollout
from poco.runtime.actors import Actor, ChunkFigures, Moment, OperatorActor
from poco.runtime.hands import HandsActor
from poco.runtime.intervention import RELEASE_LOOKS, InterveningActor
from poco.runtime.person import Person
from poco.runtime.run_options import OPERATOR_SPECIFICATION, HandsOptions
from poco.specification import read_specification
from runs import SPEED_MAX_M_S

SPECIFICATION = read_specification(OPERATOR_SPECIFICATION)
LIMITS = fr3_limits(PLANNING_MARGINS, GUARDS, SPECIFICATION.tip)
STEPS = 160


class Restless(Device):
    """Hands that begin and cease to move at random, in random directions."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._moving = False

    def read(self) -> Reading:
        """Look at them."""
        if self._random.random() < (0.15 if self._moving else 0.08):
            self._moving = not self._moving
        return Reading(self._random.uniform(-1.0, 1.0, 4)) if self._moving else Reading()


class WatchedPlant(SimulatedPlant):
    """Keeps every command until a collision, after which the arm obeys none."""

    def reset(self, q: npt.NDArray[np.float64]) -> None:
        """Begin anew."""
        super().reset(q)
        self.commands: list[npt.NDArray[np.float64]] = []

    def _live(self) -> None:
        super()._live()
        if not self.reflex:
            self.commands.append(np.array(self._command["q"]))


def new_plant() -> WatchedPlant:
    """An arm with the easy task."""
    return WatchedPlant(PegInHole(parameters("easy")), fr3_limits(STEP_MARGINS, GUARDS, SPECIFICATION.tip))


def new_actor(device: Device, seed: int = 0, policy: Actor | None = None) -> InterveningActor:
    """The scripted operator or another `policy`, and hands on `device`."""
    hands = HandsActor(SPECIFICATION, LIMITS, HandsOptions(device="keyboard"), seed, Person(lambda: []))
    hands.device = device
    return InterveningActor(policy or OperatorActor(SPECIFICATION, seed), hands)


def play(actor: InterveningActor, plant: WatchedPlant, episode: int) -> tuple[list[Step], list[bool]]:
    """Run one episode as the policy process does; return its steps and, chunk by chunk, whether the person chose."""
    plant.reset(np.array(SPECIFICATION.rest_q))
    plant.task.place(episode)
    sequence = ChunkSequence(SPECIFICATION, LIMITS)
    rollout = Rollout(plant, sequence, robot="arm", boot_epoch=1, episode=episode, episode_steps=STEPS)
    observation, outcome, chunks = rollout.begin(0), "running", list[bool]()
    steps: list[Step] = []
    while outcome == "running":
        actions = actor.choose(Moment(episode, len(chunks), observation, rollout.state, rollout.signal))
        sequence.generation, sequence.human = actor.generation, actor.human
        sequence.execute_steps = actor.execute_steps
        transition = rollout.step(actions, yields=actor.yields)
        steps += transition.steps
        observation, outcome = transition.observation, transition.outcome
        chunks.append(actor.human)
    return steps, chunks


def hand_over(count: int, seed: int) -> int:
    """Play until there were `count` hand-overs; check limits, labels and steps of every episode. Return the episodes."""
    plant, actor, seen, episode = new_plant(), new_actor(Restless(seed), seed), 0, 0
    while seen < count:
        steps, chunks = play(actor, plant, seed + episode)
        seen += int(np.sum(np.diff(chunks)))
        episode += 1
        verdict = judge(np.array(plant.commands), Share(), SPECIFICATION.tip, SPEED_MAX_M_S)
        assert verdict.clean, (seed, episode, verdict)
        assert actor.labels == ({"intervention": "keyboard"} if any(chunks) else {})
        assert any(step.intervened for step in steps) <= any(chunks)
        numbers = [step.key.step for step in steps]
        assert numbers == sorted(set(numbers))
    return episode


def test_random_hand_overs() -> None:
    """Eighty hand-overs: an independent oracle finds every command inside the arm's limits; labels and steps say who acted."""
    assert hand_over(80, 1) > 1


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_random_hand_overs(seed: int) -> None:
    """Ten times a thousand hand-overs, the same."""
    hand_over(1000, 1000 * seed)


class Pushing(Device):
    """Hands that push to the left from one look on, for some looks."""

    def __init__(self, first: int, count: int) -> None:
        self._first, self._count, self.looks = first, count, 0

    def read(self) -> Reading:
        """Look at them."""
        self.looks += 1
        pushing = self._first <= self.looks < self._first + self._count
        return Reading(np.array([0.0, 1.0, 0.0, 0.0])) if pushing else Reading()


def test_hands_act_at_once_and_the_policy_goes_on() -> None:
    """A push in the middle of a policy's chunk acts after the delay, not at the chunk's end; then the policy finishes the task."""
    plant, device = new_plant(), Pushing(first=9, count=6)
    steps, chunks = play(new_actor(device), plant, 3)
    human = [step.key.step for step in steps if step.intervened]
    pushed = [step for step in steps if step.intervened and step.action_policy[1] > 0.9]
    assert human == list(range(human[0], human[-1] + 1))
    assert pushed[0].key.step == human[0]
    assert pushed[0].action_executed[1] > 0.5
    assert sum(chunks) >= RELEASE_LOOKS
    assert steps[-1].reward == 1.0
    assert not steps[-1].intervened
    first = [step for step in steps if step.key.step < human[0]][-1]
    policy_steps = [step.key.step for step in steps if step.chunk_id == first.chunk_id]
    assert len(policy_steps) < SPECIFICATION.execute_steps


class Judged(OperatorActor):
    """The scripted operator, who remembers how many chunks there were to every episode that it is judged by."""

    def __init__(self) -> None:
        super().__init__(SPECIFICATION, 0)
        self.chunks, self.judged = 0, list[int]()

    def chunk(self, figures: ChunkFigures) -> None:
        """Count it."""
        self.chunks += 1

    def episode(self, success: bool, fault: bool) -> None:
        """Be judged."""
        self.judged.append(self.chunks)
        self.chunks = 0

    def helped_episode(self) -> None:
        """Not be judged."""
        self.chunks = 0


def test_a_policy_is_not_judged_by_an_episode_that_a_person_helped_in() -> None:
    """What it did in that episode is not added to the next one, of which it is told how every chunk went and how it ended."""
    plant, policy = new_plant(), Judged()
    actor = new_actor(Pushing(first=9, count=6), policy=policy)
    for episode, counted in ((3, []), (4, [5])):
        _, chunks = play(actor, plant, episode)
        assert any(chunks) == (counted == [])
        for _ in range(5):
            actor.chunk(ChunkFigures(stretched=False, stopped_first=False, late=True, interrupted=False))
        actor.episode(success=True, fault=False)
        assert policy.judged == counted


def test_a_policy_alone_is_as_it_was() -> None:
    """Hands that rest change nothing: the same commands as without them, bit for bit."""
    plant, alone = new_plant(), new_plant()
    steps, chunks = play(new_actor(Pushing(0, 0)), plant, 5)
    sequence = ChunkSequence(SPECIFICATION, LIMITS)
    alone.reset(np.array(SPECIFICATION.rest_q))
    alone.task.place(5)
    rollout = Rollout(alone, sequence, robot="arm", boot_epoch=1, episode=5, episode_steps=STEPS)
    operator, observation, outcome, chunk = OperatorActor(SPECIFICATION, 0), rollout.begin(0), "running", 0
    while outcome == "running":
        moment = Moment(5, chunk, observation, rollout.state, rollout.signal)
        transition = rollout.step(operator.choose(moment))
        observation, outcome, chunk = transition.observation, transition.outcome, chunk + 1
    assert not any(chunks)
    assert not any(step.intervened for step in steps)
    np.testing.assert_array_equal(plant.commands, alone.commands)
