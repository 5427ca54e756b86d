"""Weights compiled in as constants: chosen by measurement, the same policy, on trial first, never in the way of a newer one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from poco.artifact import Tensors, read_artifact
from poco.errors import ArtifactError
from poco.noise import NoiseSource
from poco.runtime.compiled import FACTS, CompiledFolder, CompiledWeights
from poco.runtime.compiler import Compiler
from poco.runtime.session import Session
from poco.runtime.swap import Moved, Swap
from poco.runtime.swapping import SwappingActor
from poco.runtime.weights_choice import Comparison
from poco.settings import InferenceSettings
from programs import ARTIFACT
from workshop import Workshop, seen

SEED = 3
TOLERANCE = 1e-4
PATIENCE_S = 60.0


class Robot:
    """A policy process that takes generations and compiled weights, and the compiler beside it, in one process."""

    def __init__(self, folder: Path, weights: str = "compiled") -> None:
        self.workshop = Workshop(read_artifact(ARTIFACT), folder)
        self.store = self.workshop.store
        self.store.adopt(self.workshop.artifact)
        settings = self.workshop.options.settings
        self.inference: InferenceSettings = msgspec.structs.replace(settings.inference, weights=weights)
        self.found: list[Comparison] = []
        self.moves: list[Moved] = []
        swap = msgspec.structs.replace(settings.swap, baseline_episodes=0, shadow_chunks=3, probation_episodes=0)
        self.compiled = CompiledFolder(self.store.folder, self.inference)
        weights_of = CompiledWeights(self.compiled)
        self.actor = SwappingActor(self.store, swap, SEED, self.moves.append, compiled=weights_of)
        self.weights: dict[int, Tensors] = {self.actor.generation: dict(self.workshop.artifact.tensors)}
        self._alone, self._noise, self._chunks = Session(self.workshop.artifact), NoiseSource(SEED), count(1)

    @property
    def swap(self) -> Swap:
        return self.actor.swap

    @property
    def active(self) -> Path:
        """The folder of the active generation."""
        return self.swap.active.folder

    def compiler(self, clock_ns: Callable[[], int] | None = None) -> Compiler:
        return Compiler(self.compiled, self.inference, lambda found, _: self.found.append(found), clock_ns)

    def drive(self) -> None:
        """Choose one chunk, which is what the weights of the generation that it names choose, and use the time after it."""
        chunk = next(self._chunks)
        observation = np.full(self.actor.specification.observation_size, 0.01 * (chunk % 10), np.float32)
        actions = self.actor.choose(seen(1, chunk, observation))
        noise = self._noise.sample(1, chunk, self._alone.noise_shape)
        self._alone.rebind(self._alone.prepare(self.weights[self.actor.generation]))
        np.testing.assert_allclose(actions, self._alone.run(observation, noise), atol=TOLERANCE, rtol=0.0)
        plan = SimpleNamespace(stretched=False)
        self.actor.meanwhile(lambda _: plan, plan)  # type: ignore[arg-type, return-value]

    def until(self, condition: Callable[[], bool]) -> None:
        """Drive until `condition` holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, self.moves
            self.drive()

    def offer(self, generation: int) -> None:
        """A newer generation that has passed the gate."""
        trained = self.workshop.trained(generation)
        self.weights[generation] = dict(trained)
        made = self.workshop.offer(generation, trained=trained)
        self.store.point("offered", self.store.add(made.manifest, made.signature, made.files))

    @property
    def compiled_serves(self) -> bool:
        return self.swap.driver.inputs is not None

    def told(self, weights: str | None) -> list[str]:
        """The states that generations (None), or weights in one form, have come to."""
        return [moved.after.value for moved in self.moves if moved.weights == weights]


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    """A robot that always compiles weights in."""
    return Robot(tmp_path)


def test_they_take_the_way_of_every_candidate(robot: Robot) -> None:
    """Loaded, in shadow, then they serve under the same generation; nothing of that counts as a generation's move."""
    assert robot.compiler().compile(robot.active) == "compiled"
    robot.until(lambda: robot.compiled_serves)
    robot.drive()
    assert robot.told("compiled") == ["loaded", "shadow", "probation", "active"]
    assert (robot.told("inputs"), robot.told(None)) == (["retired"], [])
    assert robot.found == []
    assert robot.swap.previous is None


def test_a_newer_generation_goes_first(robot: Robot) -> None:
    """It throws compiled weights out of their shadow, is bound as inputs at once, and gets compiled weights of its own."""
    first = robot.active
    robot.compiler().compile(first)
    robot.until(lambda: robot.swap.candidate is not None)
    second = robot.actor.generation + 1
    robot.offer(second)
    robot.drive()
    assert [moved.reason for moved in robot.moves if moved.after == "rejected"] == ["superseded"]
    robot.until(lambda: robot.actor.generation == second)
    assert not robot.compiled_serves
    robot.compiler().compile(robot.active)
    assert not robot.compiled.of(first).exists()
    robot.until(lambda: robot.compiled_serves)
    assert robot.actor.generation == second
    third = second + 1
    robot.offer(third)
    robot.until(lambda: robot.swap.active.generation == third)
    assert not robot.compiled_serves
    assert robot.swap.roll_back()
    assert (robot.actor.generation, robot.compiled_serves) == (second, False)
    robot.drive()


def test_compiled_weights_that_fail_give_way_to_inputs(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that they cannot make comes from the inputs; that is recorded, and they are not tried again."""
    robot.compiler().compile(robot.active)
    robot.until(lambda: robot.compiled_serves)
    session = robot.swap.active.bound.session

    def fails(*_: object) -> None:
        raise ArtifactError("the device is gone")

    monkeypatch.setattr(session, "run", fails)
    for _ in range(5):
        robot.drive()
    assert not robot.compiled_serves
    assert robot.told("compiled")[-1] == "rejected"
    assert robot.told("inputs") == ["retired", "active"]
    assert "the device is gone" in robot.moves[-1].reason


@pytest.mark.parametrize("damage", ["a byte", "the owner", "the computer", "the weights"])
def test_what_is_not_what_it_should_be_stays_out(damage: str, robot: Robot) -> None:
    """Damaged, open to others, made elsewhere or saying something else: refused with a reason, inputs go on."""
    if damage == "the weights":
        other = robot.workshop.offer(99)
        generation = robot.store.add(other.manifest, other.signature, other.files)
        robot.compiler().compile(generation)
        robot.compiled.of(generation).rename(robot.compiled.of(robot.active))
    else:
        robot.compiler().compile(robot.active)
    folder = robot.compiled.of(robot.active)
    if damage == "a byte":
        constants = bytearray((folder / "constants.data").read_bytes())
        constants[1000] ^= 1
        (folder / "constants.data").write_bytes(constants)
    elif damage == "the owner":
        (folder / FACTS).chmod(0o644)
    elif damage == "the computer":
        facts = msgspec.json.decode((folder / FACTS).read_bytes())
        facts["target"]["processor"] = "another"
        (folder / FACTS).write_bytes(msgspec.json.encode(facts))
    robot.until(lambda: robot.told("compiled") == ["rejected"])
    words = {"a byte": "damaged", "the owner": "mode 644", "the computer": "another", "the weights": "golden"}
    assert words[damage] in robot.moves[-1].reason
    for _ in range(3):
        robot.drive()
    assert not robot.compiled_serves


def test_a_compiler_that_was_killed_or_fails_leaves_inputs_serving(robot: Robot) -> None:
    """Half of a compilation is nothing, and is made anew; what would not give its golden chunks never comes to be."""
    folder = robot.compiled.of(robot.active)
    half = folder.with_name(folder.name + ".part")
    half.mkdir()
    (half / FACTS).write_bytes(b"{}")
    for _ in range(3):
        robot.drive()
    assert robot.moves == []
    trained = robot.workshop.trained(99)
    wrong = robot.workshop.offer(99, trained=trained, golden=dict(robot.workshop.artifact.golden))
    generation = robot.store.add(wrong.manifest, wrong.signature, wrong.files)
    with pytest.raises(ArtifactError, match="golden"):
        robot.compiler().compile(generation)
    assert list(robot.compiled.path.iterdir()) == []
    assert robot.compiler().compile(robot.active) == "compiled"
    constants = folder / "constants.data"
    constants.write_bytes(constants.read_bytes()[:-1])
    assert robot.compiler().compile(robot.active) == "compiled"
    robot.until(lambda: robot.compiled_serves)


def test_another_setting_or_computer_finds_nothing(robot: Robot) -> None:
    """What was compiled by all means does not count as measured, nor what was compiled for other threads."""
    robot.compiler().compile(robot.active)
    for change in ({"weights": "measure"}, {"threads": 2}):
        other = CompiledFolder(robot.store.folder, msgspec.structs.replace(robot.inference, **change))
        assert not other.holds(robot.active)
    assert robot.compiled.holds(robot.active)


def clock_of(inputs_us: Iterator[int], compiled_us: Iterator[int]) -> Callable[[], int]:
    """A clock by which inferences take so long, in turns, whichever of both begins the pair."""
    now_ns, calls = 0, count()

    def clock() -> int:
        nonlocal now_ns
        number = next(calls)
        if number % 2:
            pair, place = divmod(number // 2, 2)
            now_ns += 1000 * next(inputs_us if (pair + place) % 2 == 0 else compiled_us)
        return now_ns

    return clock


@pytest.mark.parametrize(
    ("inputs_us", "compiled_us", "chosen", "faster"),
    [
        ((100,), (80,), "compiled", 100),
        ((100,), (96,), "inputs", 0),
        ((100,), (120,), "inputs", 0),
        ((100, 100), (90, 110), "inputs", 50),
        ((100, 100, 100, 100, 100), (90, 90, 90, 90, 110), "compiled", 80),
    ],
)
def test_the_choice_is_that_of_the_measurement(
    inputs_us: tuple[int, ...], compiled_us: tuple[int, ...], chosen: str, faster: int, tmp_path: Path
) -> None:
    """Faster by 5 % in surely more than half of all pairs, or inputs stay; it is remembered for graph and computer."""
    robot = Robot(tmp_path, "measure")
    clock = clock_of(cycle(inputs_us), cycle(compiled_us))
    assert robot.compiler(clock).compile(robot.active) == chosen
    (found,) = robot.found
    assert (found.chosen, found.faster, found.pairs) == (chosen, faster, 100)
    assert robot.compiled.holds(robot.active) == (chosen == "compiled")
    robot.offer(robot.actor.generation + 1)
    robot.until(lambda: robot.actor.generation == robot.workshop.artifact.manifest.generation + 1)

    def never() -> int:
        raise AssertionError("measured twice")

    assert robot.compiler(never).compile(robot.active) == chosen
    assert robot.found == [found, found]
