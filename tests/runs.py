"""What the tests of whole runs ask of a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from oracle import Share, judge
from poco.artifact import read_artifact
from poco.runtime.measures import Report
from poco.runtime.report import REPORT
from poco.runtime.run_folder import EpisodeEnded, Event, Fault, Hold, Reflex, RunFolder
from poco.shm import RunMemory
from programs import ARTIFACT

SPEED_MAX_M_S = 0.25
HELD_TICKS = 5000

Records = npt.NDArray[np.void]


def chunks_made(folder: Path, count: int) -> Callable[[], bool]:
    """A condition that holds once the policy has made `count` chunks: the arm is in the middle of an episode."""
    return lambda: (folder / "run.json").is_file() and len(RunFolder.open(folder).chunks()) >= count


def run_name(folder: Path) -> str:
    """The name of the run's shared memory."""
    name: str = msgspec.json.decode((folder / "options.json").read_bytes())["run_name"]
    return name


def report_of(folder: Path) -> Report:
    """The report that the run has left."""
    return msgspec.json.decode((folder / REPORT).read_bytes(), type=Report)


def events(folder: Path) -> list[Event]:
    """The events of a run so far."""
    return RunFolder.open(folder).events() if (folder / "run.json").is_file() else []


def ended(folder: Path) -> list[EpisodeEnded]:
    """The episodes of a run that have ended."""
    return [event for event in events(folder) if isinstance(event, EpisodeEnded)]


def held(folder: Path) -> bool:
    """Tell whether no episode has ended for longer than one lasts and the way to the next."""
    tick = int(RunMemory.attach(run_name(folder)).control()["tick"])
    return bool(ended(folder)) and tick > ended(folder)[-1].tick + HELD_TICKS


def assert_undisturbed(folder: Path) -> None:
    """Nothing has stopped the arm, no chunk was late, no tick is missing and every command is inside the limits."""
    assert not [event for event in events(folder) if isinstance(event, Fault | Hold | Reflex)]
    assert not [chunk for chunk in RunFolder.open(folder).chunks() if chunk.late]
    ticks = RunFolder.open(folder).ticks()
    assert np.all(np.diff(ticks["state"]["tick"]) == 1)
    verdict = judge(np.array(ticks["command"]["q"]), Share(), read_artifact(ARTIFACT).specification.tip, SPEED_MAX_M_S)
    assert verdict.clean, verdict


def assert_came_to_rest(ticks: Records) -> None:
    """The arm was moving, came to rest inside its limits and ended its motion there."""
    commands = np.array(ticks["command"]["q"])
    assert np.abs(ticks["command"]["dq"]).max() > 0.01
    assert ticks["command"]["finished"][-1] == 1
    assert np.ptp(commands[-3:], axis=0).max() == 0.0
    assert np.all(np.diff(ticks["state"]["tick"]) == 1)
    verdict = judge(commands, Share(), read_artifact(ARTIFACT).specification.tip, SPEED_MAX_M_S)
    assert verdict.clean, verdict
