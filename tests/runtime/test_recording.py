"""Between demonstrations: what begins the next one, what does not, and how the arm is held meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poco.hw.devices.device import Command, Device, Reading
from poco.hw.emulator.tasks.peg_in_hole import GUARDS, PegInHole, parameters
from poco.hw.emulator.tasks.plant import SimulatedPlant
from poco.limits import PLANNING_MARGINS, STEP_MARGINS, fr3_limits
from poco.runtime.episode_book import EpisodeBook
from poco.runtime.hands import HandsActor, moves
from poco.runtime.journal_recorder import JournalRecorder
from poco.runtime.person import Person
from poco.runtime.recording import LOOK_TICKS, Recording
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import OPERATOR_SPECIFICATION, HandsOptions
from poco.specification import read_specification
from synthetic_run import facts

SPECIFICATION = read_specification(OPERATOR_SPECIFICATION)
LIMITS = fr3_limits(PLANNING_MARGINS, GUARDS, SPECIFICATION.tip)
STILL = Reading()
MOVING = Reading(np.array([0.0, 0.5, 0.0, 0.0]))


class Script(Device):
    """Readings that were written down; the last one goes on."""

    def __init__(self, *readings: Reading) -> None:
        self._readings = list(readings)
        self.looks = 0

    def read(self) -> Reading:
        """Return the next one."""
        self.looks += 1
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]


class Table:
    """An arm at its start pose, and a person whose hands follow a script."""

    def __init__(self, folder: Path, script: Script, episodes: int = 5, renew_ticks: int = 10_000) -> None:
        self.renewed: list[int] = []
        self.person = Person(list)
        hands = HandsActor(SPECIFICATION, LIMITS, HandsOptions(device="keyboard"), 0, self.person)
        hands.device = script
        self.plant = SimulatedPlant(PegInHole(parameters("easy")), fr3_limits(STEP_MARGINS, GUARDS, SPECIFICATION.tip))
        self.plant.reset(np.array(SPECIFICATION.rest_q))
        run = RunFolder.create(folder / "run", facts())
        self.folder = run
        book = EpisodeBook(run, JournalRecorder("nobody", "fr3", 1, 0, SPECIFICATION), SPECIFICATION)
        self._hands = hands
        self._recording = Recording(self.person, book, self.plant, episodes, renew_ticks)

    def begins(self) -> bool:
        """Wait as a run does between two demonstrations."""
        return self._recording.begins(
            lambda state: moves(self._hands.glance()), lambda: self.renewed.append(self.plant.tick)
        )


def pressed(*commands: Command) -> Reading:
    """Hands at rest that press buttons."""
    return Reading(commands=commands)


def test_it_begins_with_the_first_motion_after_start(tmp_path: Path) -> None:
    """Motion without start begins nothing, nor does start without motion; a look every 50 ms of robot time."""
    script = Script(MOVING, MOVING, pressed("start"), STILL, STILL, MOVING)
    table = Table(tmp_path, script)
    assert table.begins()
    assert script.looks == 6
    assert table.plant.tick == 6 * LOOK_TICKS - 1


def test_a_start_from_before_does_not_count(tmp_path: Path) -> None:
    """Start that was pressed while the arm was on its way back is forgotten."""
    table = Table(tmp_path, Script(MOVING, MOVING, pressed("quit")))
    table.person.say(["start"])
    assert not table.begins()


def test_the_servo_is_kept_patient(tmp_path: Path) -> None:
    """A person may take any time: the hold is renewed again and again."""
    table = Table(tmp_path, Script(*[STILL] * 20, pressed("start"), MOVING), renew_ticks=200)
    assert table.begins()
    assert len(table.renewed) == 4
    assert min(np.diff(table.renewed)) > 200


@pytest.mark.parametrize("kept", [1, 2])
def test_start_ends_the_run_when_all_are_kept(tmp_path: Path, kept: int) -> None:
    """With as many demonstrations as were asked for, start ends the run; as long as one is missing it begins another."""
    table = Table(tmp_path, Script(pressed("start"), MOVING), episodes=2)
    for number in range(kept):
        (table.folder.episodes / f"{number:06d}.safetensors").touch()
    assert table.begins() == (kept < 2)
