"""The arm's side of the servo process before a motion: protocols, what the arm reports against the settings, the hold on trial."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from poco.arm_settings import RobotSettings
from poco.errors import ArmError
from poco.hw.franka import FrankaArm
from poco.hw.franka_versions import server_protocol
from poco.runtime import network_path
from poco.settings import read_settings
from programs import ROOT, Program

HOST = "127.0.12.51"
LOAD = {
    "robot.load.mass_kg": "0.4",
    "robot.load.center_m": "[0.0, 0.01, 0.05]",
    "robot.load.inertia_kg_m2": "[0.001, 0, 0, 0, 0.002, 0, 0, 0, 0.001]",
}


def robot(host: str, **keys: str) -> RobotSettings:
    """Return the packaged settings of the arm with `keys` changed."""
    overrides = {"robot.host": host, **{name.replace("__", "."): value for name, value in keys.items()}}
    return read_settings(ROOT / "configs" / "fr3_peg_in_hole.yaml", overrides).robot


@pytest.fixture(autouse=True)
def ordinary_scheduling() -> Iterator[None]:
    """Undo what the vendor's library does to the thread that makes a Robot."""
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an emulated arm in lockstep."""
    program = Program(
        "poco-emulator", "--host", HOST, "--pacing", "lockstep", "--task", "none", folder=tmp_path_factory.mktemp("arm")
    )
    try:
        program.until(lambda: "ready" in program.out)
        yield HOST
    finally:
        program.end()


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (5, ["protocol 5 (Panda, system 4.2.1 or newer)", "libfranka 0.9", "docs/franka.md"]),
        (9, ["protocol 9 (FR3, system 5.7.2 to 5.8)", "system to 5.9 or newer"]),
        (11, ["protocol 11", "newer than poco"]),
    ],
)
def test_another_protocol_is_named_with_its_arm_and_what_helps(tmp_path: Path, protocol: int, words: list[str]) -> None:
    """The vendor's library refuses an arm of 5, 9 or 11: the error says whose that is and what to do, and so does the doctor."""
    host = f"127.0.12.{60 + protocol}"
    flags = ["--task", "none", "--protocol", str(protocol)]
    program = Program("poco-emulator", "--host", host, *flags, folder=tmp_path)
    try:
        program.until(lambda: "ready" in program.out)
        with pytest.raises(ArmError) as raised:
            FrankaArm(robot(host)).connect()
        found = network_path.protocol(host)
    finally:
        program.end()
    assert all(word in str(raised.value) for word in words), raised.value
    assert "pylibfranka 0.21" in str(raised.value)
    assert (found.grade, found.seen.split()[0]) == ("fail", str(protocol))
    assert found.remedy in str(raised.value)


def test_a_text_without_a_version_names_none() -> None:
    """Only a number after "server version" counts."""
    assert server_protocol("libfranka: Incompatible library version (library version: 10)") is None


def test_what_the_arm_reports_is_held_against_the_settings(emulator: str) -> None:
    """Load and thresholds arrive; an end effector of another mass and a load that the arm does not repeat are refused."""
    assert network_path.protocol(emulator).grade == "ok"
    arm = FrankaArm(robot(emulator, **{key.replace(".", "__"): value for key, value in LOAD.items()}))
    arm.connect()
    arm.check_ready(recover=False)
    arm.configure()
    facts = arm.facts()
    assert facts.load_kg == pytest.approx(0.4)
    np.testing.assert_allclose(facts.load_center_m, [0.0, 0.01, 0.05], atol=1e-7)
    assert facts.answered is None
    arm.settings = robot(emulator, robot__end_effector_kg=str(facts.end_effector_kg + 0.1))
    with pytest.raises(ArmError, match=r"end effector of .* robot\.end_effector_kg says"):
        arm.configure()
    arm.settings = robot(emulator, robot__end_effector_kg=str(facts.end_effector_kg + 0.01))
    arm.configure()


def test_the_arm_is_held_on_trial_and_left_idle(emulator: str) -> None:
    """Every command of the hold counts, the arm stays where it is, and another motion may begin."""
    arm = FrankaArm(robot(emulator))
    arm.connect()
    arm.check_ready(recover=False)
    before = arm.facts()
    assert arm.hold_on_trial() == []
    facts = arm.facts()
    assert facts.answered == 1.0
    assert facts.end_effector_kg == before.end_effector_kg
    arm.start()
    q = list(arm.read().q_d)
    arm.write(q)
    arm.read()
    arm.write(q, finished=True)
    arm.disconnect()
