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
from poco.runtime.run_folder import RunFolder
from programs import ARTIFACT

SPEED_MAX_M_S = 0.25

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


def assert_came_to_rest(ticks: Records) -> None:
    """The arm was moving, came to rest inside its limits and ended its motion there."""
    commands = np.array(ticks["command"]["q"])
    assert np.abs(ticks["command"]["dq"]).max() > 0.01
    assert ticks["command"]["finished"][-1] == 1
    assert np.ptp(commands[-3:], axis=0).max() == 0.0
    assert np.all(np.diff(ticks["state"]["tick"]) == 1)
    verdict = judge(commands, Share(), read_artifact(ARTIFACT).specification.tip, SPEED_MAX_M_S)
    assert verdict.clean, verdict
