"""The path to an arm behind a Polymetis server, with all its processes, over real gRPC sockets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from oracle import Share, judge
from poco.hw.emulator.server import START_MULTIPLE_TICKS
from poco.runtime.measures import Report
from poco.runtime.report import REPORT
from poco.runtime.run_folder import RunFolder
from programs import ARTIFACT, Program

EPISODES = 2
SPEED_MAX_M_S = 0.25
ROBOT = Share()
UPDATES_PER_CHUNK = 1


@dataclass(frozen=True)
class Run:
    """What is left of a run, and which libraries its processes had mapped while the arm moved."""

    folder: RunFolder
    exit_code: int
    out: str
    errors: str
    mapped: dict[str, set[str]]

    @property
    def report(self) -> Report:
        """Its figures."""
        return msgspec.json.decode((self.folder.path / REPORT).read_bytes(), type=Report)


def libraries(process: int) -> set[str]:
    """Names of the shared libraries that a process has mapped, as lib<name>."""
    return set(re.findall(r"/(lib\w+)[^/\n]*\.so", Path(f"/proc/{process}/maps").read_text()))


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Polymetis server over the emulated arm, in lockstep; its address."""
    host = "127.0.5.1"
    words = ["--host", host, "--interface", "polymetis", "--pacing", "lockstep"]
    program = Program("poco-emulator", *words, folder=tmp_path_factory.mktemp("emulator"))
    program.until(lambda: "ready" in program.out)
    yield host
    program.end()


@pytest.fixture(scope="module")
def act(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | Path], Run]:
    """Run some episodes of a policy behind that server."""

    def act(policy: str | Path) -> Run:
        folder = tmp_path_factory.mktemp("run")
        addresses = ["--robot", "polymetis", "--robot.host", emulator, "--sensors", f"emulator://{emulator}"]
        words = [*addresses, "--policy", policy, "--episodes", str(EPISODES), "--out", folder / "run"]
        program = Program("poco-runtime", *words, folder=folder)
        try:
            program.until(lambda: "episode 0 (1 of " in program.out)
            processes = program.children() | {"supervisor": program.process.pid}
            mapped = {name: libraries(process) for name, process in processes.items()}
            return Run(RunFolder.open(folder / "run"), program.wait(), program.out, program.err, mapped)
        finally:
            program.end()

    return act


@pytest.fixture(scope="module")
def policy_run(act: Callable[[str | Path], Run]) -> Run:
    """The committed policy."""
    return act(ARTIFACT)


def test_it_succeeds(policy_run: Run) -> None:
    """The committed policy inserts the peg in every episode and nothing that was told to the controller came late."""
    assert (policy_run.exit_code, policy_run.errors) == (0, "")
    report = policy_run.report
    assert (report.finished, report.successes, report.faults, report.chunks_late) == (EPISODES, EPISODES, [], 0)
    said = policy_run.out.splitlines()
    assert said[1].startswith("server "), "which server it is, and nothing of a real time that is kept there"
    assert not any("real-time" in line for line in said)


def test_every_tick_is_recorded(policy_run: Run) -> None:
    """The server's stream gives every tick, so that nothing is missing in the record. In lockstep motions begin at whole minutes;
    what was seen before, if anything was, lies further back."""
    ticks = policy_run.folder.ticks()["state"]["tick"]
    in_motion = ticks[ticks >= START_MULTIPLE_TICKS]
    assert len(in_motion) > EPISODES * 2000
    assert np.all(np.diff(in_motion) == 1)


def test_one_update_a_chunk(policy_run: Run) -> None:
    """No more is told to the controller than the chunks that the arm has followed."""
    ticks = policy_run.folder.ticks()
    chunks = len(set(ticks["command"]["chunk_id"].tolist()) - {0})
    assert chunks > EPISODES * 5
    assert int((ticks["sent_ns"] > 0).sum()) <= UPDATES_PER_CHUNK * chunks


def test_no_command_leaves_the_limits(policy_run: Run) -> None:
    """An independent oracle finds no violation of the arm's limits or of the tip's speed cap in what the controller was told."""
    commands = np.array(policy_run.folder.ticks()["command"]["q"], np.float64)
    verdict = judge(commands, ROBOT, policy_run.report.facts.specification.tip, SPEED_MAX_M_S)
    assert verdict.clean, verdict


def test_the_arm_follows(policy_run: Run) -> None:
    """The joints are where the commands are, within what contact and the soft law leave."""
    ticks = policy_run.folder.ticks()
    error = np.abs(ticks["command"]["q"] - ticks["state"]["q"]).max(axis=1)
    assert np.percentile(error, 90) < 0.005


def test_torch_in_the_bridge_only(policy_run: Run) -> None:
    """Of the run's processes only the bridge has torch mapped."""
    assert set(policy_run.mapped) == {"supervisor", "bridge", "policy", "link"}
    assert [name for name, names in policy_run.mapped.items() if any(n.startswith("libtorch") for n in names)] == [
        "bridge"
    ]


def test_the_operator_succeeds(act: Callable[[str | Path], Run]) -> None:
    """So does the scripted operator."""
    run = act("operator")
    assert (run.exit_code, run.errors) == (0, "")
    assert (run.report.finished, run.report.successes, run.report.faults) == (EPISODES, EPISODES, [])
