"""What the demonstration reads of the learner's files is what the learner writes, though neither imports the other."""

from __future__ import annotations

from pathlib import Path

import msgspec

from poco.learner.metrics import METRICS_FILE, EpisodeFigures, Origin, append_figures
from poco.learner.publications import PUBLICATIONS_FILE, Publication
from poco.learner.service_status import GuardStatus, RobotStatus, ServiceStatus
from poco.runtime.demo_learn import learner_files
from poco.runtime.demo_learn.learner_files import LEARNING, read_learned, read_publications, read_status


def test_status(tmp_path: Path) -> None:
    """Every field that is shown has the learner's value."""
    status = ServiceStatus(
        unix_s=1.0,
        monotonic_s=2.0,
        started_unix_s=0.5,
        address="tcp://127.0.0.1:5",
        robots={"fr3": RobotStatus(connected=True, generation=7, driving=None)},
        episodes=3,
        steps=120,
        successes_20=2,
        recent=3,
        updates=40,
        owed=5,
        refused_updates=0,
        phase="learning",
        guard=GuardStatus(baseline=0.3, measured=True, best=0.4, below=0, roll_backs=1),
        generation=8,
        published=6,
        withheld=1,
        last_withheld="moved too far",
        refused_episodes=0,
        last_refusal="",
        relabelled=0,
        not_whole=0,
        inbox_bytes=1000,
        inbox_position=900,
        learned_position=800,
        rejected_messages=0,
        trouble="disk",
    )
    (tmp_path / learner_files.STATUS).write_bytes(msgspec.json.encode(status))
    read = read_status(tmp_path)
    assert read is not None
    kept = {name: getattr(status, name) for name in read.__struct_fields__}
    assert msgspec.to_builtins(read).items() <= _builtins(kept).items()
    assert (read.robots["fr3"].generation, read.guard.baseline, read.guard.roll_backs) == (7, 0.3, 1)


def _builtins(fields: dict[str, object]) -> dict[str, object]:
    """The fields as they are read: of a robot and of the guard only those that are shown."""
    tree: dict[str, object] = msgspec.to_builtins(fields)
    return tree | {
        "robots": {"fr3": {"connected": True, "generation": 7}},
        "guard": {"baseline": 0.3, "roll_backs": 1},
        "owed": 5.0,
    }


def test_publications(tmp_path: Path) -> None:
    """A line of publications.jsonl, with its clock."""
    one = Publication(
        generation=2,
        parent=1,
        cause="rolled_back",
        unix_s=1.0,
        monotonic_s=12.5,
        episodes=9,
        steps=400,
        updates=100,
        bytes=200_000,
        metrics={"golden_shift": 0.1},
    )
    assert learner_files.PUBLICATIONS == PUBLICATIONS_FILE
    (tmp_path / PUBLICATIONS_FILE).write_bytes(msgspec.json.encode(one) + b"\n")
    assert [msgspec.to_builtins(read) for read in read_publications(tmp_path)] == [
        {"generation": 2, "parent": 1, "cause": "rolled_back", "monotonic_s": 12.5, "episodes": 9, "updates": 100}
    ]


def test_episodes(tmp_path: Path) -> None:
    """A line of metrics.jsonl says which of the robot's episodes it is about."""
    origin = Origin(robot="fr3", boot_epoch=5, episode=4, generation=2, steps=33, admitted_unix_s=1.0)
    figures = EpisodeFigures(
        episode=7,
        steps=300,
        updates=90,
        phase="learning",
        success=True,
        recent_success=0.5,
        verdict="go_on",
        diagnostics={},
        origin=origin,
    )
    append_figures(tmp_path, figures)
    append_figures(tmp_path, msgspec.structs.replace(figures, origin=None))
    assert learner_files.METRICS == METRICS_FILE
    first, second = read_learned(tmp_path)
    assert (first.episode, first.success, first.phase, second.origin) == (7, True, LEARNING, None)
    assert msgspec.to_builtins(first.origin) == {"robot": "fr3", "boot_epoch": 5, "episode": 4, "steps": 33}
