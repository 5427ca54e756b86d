"""`poco-runtime check` finds every way in which the files of a task do not fit, without starting anything."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from poco.errors import UsageError
from poco.runtime.run_options import OPERATOR_SPECIFICATION
from poco.runtime.task_check import run
from programs import ROOT

SEEN = ROOT / "artifacts" / "peg_in_hole_seen"
TASK: dict[str, Any] = yaml.safe_load(OPERATOR_SPECIFICATION.read_text())


def checked(*words: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code and the findings by what they are about."""
    out = io.StringIO()
    code = run([*words, "--json"], Console(file=out, width=10_000))
    return code, {finding["what"]: finding for finding in json.loads(out.getvalue())}


def task(folder: Path, **changes: object) -> str:
    """A task file like the packaged one but for `changes`."""
    file = folder / "task.yaml"
    file.write_text(yaml.safe_dump({**TASK, **changes}))
    return str(file)


def field(name: str, **changes: object) -> list[dict[str, Any]]:
    """The packaged observation, the field `name` changed."""
    return [{**one, **changes} if one["name"] == name else one for one in TASK["observation"]]


def test_the_packaged_task_fits() -> None:
    """Nothing to say against it, nor against the policy that sees through rendered cameras on the emulated arm."""
    for words in ((), ("--policy", str(SEEN)), ("--image-side", "64")):
        code, found = checked(*words)
        assert code == 0
        assert {finding["grade"] for finding in found.values()} == {"ok"}
    assert "rendered, 64 x 64 at 30 Hz" in found["camera near"]["seen"]


@pytest.mark.parametrize(
    ("words", "what", "grade"),
    [
        (("--guards.box_max_m", "[0.5, 0.2, 0.05]"), "start of the tip", "fail"),
        (("--guards.table_z_m", "0.2"), "start of the tip", "fail"),
        (("--guards.speed_max_m_s", "0.1"), "actions", "warn"),
        (("--task.sensors", "none"), "target", "fail"),
        (("--task.outcome", "camera://1"), "task.outcome", "fail"),
        (("--robot.kind", "franka"), "task.sensors", "fail"),
        (("--robot", "franka"), "task.sensors", "fail"),
        (("--robot.kind", "polymetis"), "task.sensors", "fail"),
        (("--policy", str(SEEN), "--robot.kind", "franka"), "camera wrist", "fail"),
        (("--policy", str(SEEN), "--cameras", "[]"), "cameras", "fail"),
        (("--image-side", "64", "--see", "near", "--robot.kind", "franka"), "camera near", "fail"),
    ],
)
def test_settings_that_do_not_fit_are_found(words: tuple[str, ...], what: str, grade: str) -> None:
    """Each is named with a remedy; only what keeps a run from working makes the exit code 1."""
    code, found = checked(*words)
    assert (found[what]["grade"], code) == (grade, int(grade == "fail"))
    assert found[what]["remedy"]


def test_tasks_that_do_not_fit_are_found(tmp_path: Path) -> None:
    """A start pose at a limit or out of what the policy can tell, an unknown source, actions too large, no time to choose."""
    rest = [0.0, 0.0332644628, 0.0, -2.37189126, 0.0, 4.49, 0.7853981633974483]
    assert checked("--task", task(tmp_path, rest_q=rest))[1]["start pose"]["grade"] == "fail"
    narrow = field("tip_position", low=[0.4, -0.1, 0.0], high=[0.6, 0.1, 0.1])
    assert checked("--task", task(tmp_path, observation=narrow))[1]["bounds of tip_position"]["grade"] == "fail"
    code, found = checked("--task", task(tmp_path, observation=field("tip_yaw", source="tip_jaw")))
    assert (code, found["observation"]["grade"]) == (1, "fail")
    assert "did you mean tip_yaw" in found["observation"]["seen"]
    code, found = checked("--task", task(tmp_path, action=TASK["action"][::-1]))
    assert (code, found["observation"]["grade"]) == (1, "fail")
    assert checked("--task", task(tmp_path, delay_steps=0))[1]["task"]["grade"] == "warn"
    joints = [
        {
            "name": "joints",
            "source": "joint_position",
            "frame": "none",
            "unit": "rad",
            "low": [-2.7] * 7,
            "high": [2.7] * 7,
        }
    ]
    absolute = {"action_space": "joint_position", "delta_base": "none", "action": joints}
    found = checked("--task", task(tmp_path, **absolute))[1]
    assert (found["actions"]["grade"], "joint 6" in found["actions"]["seen"]) == ("warn", True)


def test_a_person_may_judge() -> None:
    """Without a driver for the outcome the check says who decides."""
    code, found = checked("--task.outcome", "none")
    assert code == 0
    assert "a person says what succeeded" in found["episode"]["seen"]


def test_two_specifications_are_one_too_many(tmp_path: Path) -> None:
    """An artifact carries its own; none is passed over in silence."""
    with pytest.raises(UsageError, match=r"--task is .*, but the artifact .* carries its own"):
        checked("--task", task(tmp_path), "--policy", str(SEEN))


def test_what_poco_does_not_drive_is_refused(tmp_path: Path) -> None:
    """A specification of a foreign robot is for training only."""
    changes = {
        "robot": "foreign",
        "action_space": "foreign",
        "delta_base": "none",
        "flange_t_tip": [],
        "rest_q": [],
    }
    with pytest.raises(UsageError, match="poco does not drive"):
        checked("--task", task(tmp_path, **changes))
