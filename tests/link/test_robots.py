"""Several robots on one learner, all of it real but the arms: what the bench of robots says is complete is complete."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import robots
from gymnasium_robot import Played

from poco.artifact import read_artifact
from programs import ARTIFACT

HOST = "127.0.18.62"
COUNT, SECONDS = 2, 3.0
REPLAY = Path("served") / "replay" / "steps.bin"


def test_every_step_of_every_robot_arrives(tmp_path: Path) -> None:
    """Two robots play for some seconds: replay and journals agree step by step; what was tampered with is found."""
    rows, learner, wrong = robots.measure(tmp_path, COUNT, SECONDS, ARTIFACT, HOST, 0.05)
    assert wrong == []
    steps = [row.played.steps for row in rows]
    assert min(steps) > 20
    assert [row.journal_steps for row in rows] == [row.steps_in_replay for row in rows] == steps
    assert (learner.steps, learner.episodes) == (sum(steps), sum(row.played.episodes for row in rows))
    assert learner.updates > 0
    assert all(row.link_processor_s > 0.0 and row.journal_bytes > 100 * row.played.steps for row in rows)
    assert learner.inbox_entries_compared > sum(steps)
    assert tampered(tmp_path, [row.played for row in rows]) == [
        f"arm1: {steps[0] + 1} steps were made, {steps[0]} are in its journal",
        "arm2: episode 0 is not in the replay as it is in the journal",
    ]


def tampered(folder: Path, played: list[Played]) -> list[str]:
    """What is found if the first robot claims one step more and one number of the second one's first episode is another."""
    claims = [msgspec.structs.replace(played[0], steps=played[0].steps + 1), *played[1:]]
    specification = read_artifact(ARTIFACT).specification
    journals = [folder / f"journal-{one.robot}" for one in played]
    name = next(name for name in robots.replayed(folder / "served" / "replay", specification) if name[0] == "arm2")
    assert name[2] == 0
    content = np.fromfile(folder / REPLAY, np.float32)
    width = specification.observation_size + specification.action_size + 1
    content[first_row(folder, name) * width] += 0.5
    content.tofile(folder / REPLAY)
    return robots.check(folder, specification, journals, claims, [0.0] * COUNT)[2]


def first_row(folder: Path, wanted: tuple[str, int, int]) -> int:
    """The row of the replay at which an episode begins; nothing was overwritten yet."""
    row = 0
    for name, rows in robots.replayed(folder / "served" / "replay", read_artifact(ARTIFACT).specification).items():
        if name == wanted:
            return row
        row += len(rows)
    raise AssertionError(f"{wanted} is not there")
