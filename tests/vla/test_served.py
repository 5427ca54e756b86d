"""The whole loop of a VLA that sees: robots work, their learner learns from what they saw, what was learned drives the arms."""

from __future__ import annotations

import ctypes.util
from collections import Counter
from pathlib import Path

import pytest

from poco.runtime.gate import read_verdicts
from poco.runtime.run_folder import Fault, RunFolder
from vla.serving import Loop

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


def test_what_it_learned_from_what_it_saw_drives_the_arm(tmp_path: Path) -> None:
    """Images come once a chunk; the learner chooses every chunk of the first generation again from them; a later one drives."""
    loop = Loop(tmp_path, "127.0.46.9")
    loop.serve()
    robot = loop.robot("fr3", "127.0.46.10")
    try:
        robot.until(lambda: loop.newest("fr3") > 1)
    finally:
        robot.end()
        assert loop.served.stop() == 0, loop.served.log
    folder = RunFolder.open(loop.run_of("fr3"))
    assert not [event for event in folder.events() if isinstance(event, Fault)]
    assert {one.reason for one in read_verdicts(loop.store_of("fr3"))} == {""}
    first = next(loop.replay().recorded())
    assert first.end.episode == 0
    assert loop.chosen_again(first, 1e-4) >= 5


def test_several_robots_and_a_killed_learner_in_half_precision(tmp_path: Path) -> None:
    """Two robots' images lie with their own episodes, each once, whoever dies meanwhile; the next life's generations drive both."""
    loop = Loop(tmp_path, "127.0.46.9", precision="fp16")
    loop.serve()
    names = ("left", "right")
    robots = [loop.robot(name, f"127.0.46.{11 + seed}", seed) for seed, name in enumerate(names)]
    try:
        for name, robot in zip(names, robots, strict=True):
            robot.until(lambda: loop.newest(name) > 1)  # noqa: B023
        loop.served.kill()
        published = max(map(loop.newest, names))
        loop.serve()
        for name, robot in zip(names, robots, strict=True):
            robot.until(lambda: loop.newest(name) > published)  # noqa: B023
    finally:
        for robot in robots:
            robot.end()
        assert loop.served.stop() == 0, loop.served.log
    counted = Counter((one.origin.robot, one.origin.episode) for one in loop.figures if one.origin)
    assert set(counted.values()) == {1}
    episodes = list(loop.replay().recorded())
    assert {(one.end.robot, one.end.episode) for one in episodes} <= counted.keys()
    for seed, name in enumerate(names):
        first = next(one for one in episodes if one.end.robot == name)
        assert first.end.episode == 0
        assert loop.chosen_again(first, 2e-2, seed) >= 5
        assert {one.reason for one in read_verdicts(loop.store_of(name))} == {""}
        assert not [event for event in RunFolder.open(loop.run_of(name)).events() if isinstance(event, Fault)]
