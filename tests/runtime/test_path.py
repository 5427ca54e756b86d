"""The path from policy to arm with all its processes: success, limits, reproducibility, no torch, environment alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import poco.hw.emulator.tasks  # noqa: F401  registers the environment
from oracle import Share, Verdict, judge
from poco.artifact import read_artifact
from poco.clock import TICKS_PER_SECOND
from poco.episodes import Episode, read_episode
from poco.noise import NoiseSource
from poco.records import Step
from poco.runtime.cli import evaluations
from poco.runtime.measures import Report
from poco.runtime.plots import PICTURES
from poco.runtime.report import REPORT
from poco.runtime.run_folder import EpisodeEnded, RunFolder
from poco.runtime.session import Session
from poco.specification import unscale
from programs import ARTIFACT, Program, shared_memory

Floats = npt.NDArray[np.float64]

EPISODES = 50
COMPARED = 15
REPEATED = 2
ROBOT = Share()
SPEED_MAX_M_S = 0.25
ABOVE_RIM_M = 0.052
"""Tip height over which the peg touches nothing: the block's rim lies at 0.050 m."""


@dataclass(frozen=True)
class Run:
    """What is left of a run, and which libraries its processes had mapped while the arm moved."""

    folder: RunFolder
    exit_code: int
    errors: str
    printed: str
    mapped: dict[str, set[str]]

    @property
    def commands(self) -> Floats:
        """The joint commands [N, 7] (rad) of all recorded ticks."""
        return np.array(self.folder.ticks()["command"]["q"], np.float64)

    def episodes(self) -> list[Episode]:
        """All episodes, read back from their files."""
        return [read_episode(path) for path in sorted(self.folder.episodes.glob("*.safetensors"))]


def run(folder: Path, *arguments: str) -> Run:
    """Run the committed policy and look at the processes once the first episode is over."""
    program = Program("poco-runtime", "--policy", ARTIFACT, "--out", folder, *arguments, folder=folder)
    try:
        program.until(lambda: "episode 0 (1 of " in program.out)
        processes = program.children() | {"supervisor": program.process.pid}
        mapped = {name: libraries(process) for name, process in processes.items()}
        exit_code = program.wait()
        return Run(RunFolder.open(folder), exit_code, program.err, program.out, mapped)
    finally:
        program.end()


def libraries(process: int) -> set[str]:
    """Names of the shared libraries that a process has mapped, as lib<name>."""
    return set(re.findall(r"/(lib\w+)[^/\n]*\.so", Path(f"/proc/{process}/maps").read_text()))


def lockstep(folder: Path, host: str, episodes: int) -> Run:
    """Run `episodes` episodes of the emulated arm in lockstep."""
    flags = ["--robot", "sim", "--robot.host", host, "--emulator.pacing", "lockstep", "--episodes", str(episodes)]
    return run(folder, *flags)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Fifty episodes in lockstep."""
    return lockstep(tmp_path_factory.mktemp("long"), "127.0.2.1", EPISODES)


def judged(commands: Floats) -> Verdict:
    """What the independent oracle says of `commands` against the arm's own limits and the tip's speed cap."""
    return judge(commands, ROBOT, read_artifact(ARTIFACT).specification.tip, SPEED_MAX_M_S)


def test_it_succeeds(long_run: Run) -> None:
    """The committed policy succeeds in at least 80 % of 50 easy episodes through the Franka Control Interface."""
    assert (long_run.exit_code, long_run.errors) == (0, "")
    outcomes = [event.outcome for event in long_run.folder.events() if isinstance(event, EpisodeEnded)]
    assert len(outcomes) == EPISODES
    assert outcomes.count("success") >= 0.8 * EPISODES


def test_what_is_printed(long_run: Run) -> None:
    """Long work is announced, and a sentence stays one line where the output is no terminal."""
    lines = long_run.printed.splitlines()
    assert "drawing the report" in lines
    assert evaluations(read_artifact(ARTIFACT)) in lines


def test_the_run_folder_is_complete(long_run: Run) -> None:
    """Report, pictures, strip and clip are there and readable, the ticks have no gap, the shared memory is gone."""
    path = long_run.folder.path
    report = msgspec.json.decode((path / REPORT).read_bytes(), type=Report)
    assert (report.finished, report.faults, report.tick_gaps) == (EPISODES, [], 0)
    for name in (*PICTURES, "strip.png", "clip.gif"):
        with Image.open(path / name) as picture:
            assert picture.width > 200
    assert np.all(np.diff(long_run.folder.ticks()["state"]["tick"]) == 1)
    options = msgspec.json.decode((path / "options.json").read_bytes())
    assert options["run_name"] not in shared_memory()


def test_episode_files(long_run: Run) -> None:
    """Every episode is readable; its steps are whole, in order, finite and inside [-1, 1] in both kinds of actions."""
    episodes = long_run.episodes()
    assert len(episodes) == EPISODES
    for number, episode in enumerate(episodes):
        assert [step.key.step for step in episode.steps] == list(range(len(episode.steps)))
        assert {step.key.episode for step in episode.steps} == {number}
        for name in ("action_policy", "action_executed", "observation"):
            values = np.array([getattr(step, name) for step in episode.steps])
            assert np.isfinite(values).all()
        executed = np.array([step.action_executed for step in episode.steps])
        assert np.abs(executed).max() <= 1.0
        assert sum(step.reward for step in episode.steps) == float(episode.end.outcome == "success")


def test_no_command_leaves_the_limits(long_run: Run) -> None:
    """An independent oracle finds no violation of any of the arm's limits or of the tip's speed cap in what was sent."""
    verdict = judged(long_run.commands)
    assert verdict.clean, verdict
    assert verdict.largest["acceleration"] > 0.3


def test_no_torch_and_no_emulator_in_the_robot_processes(long_run: Run) -> None:
    """While it runs, no process has torch mapped, and MuJoCo is nowhere but in the emulator's own process."""
    assert set(long_run.mapped) == {"supervisor", "servo", "policy", "link", "emulator"}
    assert not any(name.startswith("libtorch") for names in long_run.mapped.values() for name in names)
    assert {name for name, names in long_run.mapped.items() if "libmujoco" in names} == {"emulator"}


def test_same_seed_same_commands(long_run: Run, tmp_path: Path) -> None:
    """A second run with the same seed sends the same commands at the same ticks bit for bit."""
    again = lockstep(tmp_path, "127.0.2.2", REPEATED)
    assert_same_commands(again, long_run)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[str]:
    """A `poco-emulator` in lockstep that somebody has started; its address."""
    host = "127.0.2.3"
    program = Program("poco-emulator", "--host", host, "--pacing", "lockstep", folder=tmp_path / "emulator")
    try:
        program.until(lambda: "ready" in program.out)
        yield host
    finally:
        program.end()


def test_franka_is_sim(long_run: Run, emulator: str, tmp_path: Path) -> None:
    """`--robot franka` with an emulator started by itself sends the commands of `--robot sim` bit for bit, without MuJoCo."""
    addresses = ["--robot.host", emulator, "--sensors", f"emulator://{emulator}"]
    other = run(tmp_path / "run", "--robot", "franka", *addresses, "--episodes", str(REPEATED))
    assert (other.exit_code, other.errors) == (0, "")
    assert set(other.mapped) == {"supervisor", "servo", "policy", "link"}
    assert not any("libmujoco" in names for names in other.mapped.values())
    assert_same_commands(other, long_run)


def assert_same_commands(short: Run, long: Run) -> None:
    """All commands of `short` up to the end of its last episode are those of `long`, tick by tick from the first of the motion.

    Bit for bit; where the arm is may differ by rounding, because `--robot franka` holds it on trial before.
    """
    last_tick = [event.tick for event in short.folder.events() if isinstance(event, EpisodeEnded)][REPEATED - 1]
    mine, other = (item.folder.ticks() for item in (short, long))
    count = int(np.searchsorted(mine["state"]["tick"], last_tick))
    assert count > REPEATED * 2 * TICKS_PER_SECOND
    for name in ("q", "chunk_id"):
        assert mine["command"][name][:count].tobytes() == other["command"][name][:count].tobytes(), name
    ticks = [each["state"]["tick"][:count] for each in (mine, other)]
    np.testing.assert_array_equal(ticks[0] - ticks[0][0], ticks[1] - ticks[1][0])
    np.testing.assert_allclose(mine["state"]["q"][:count], other["state"]["q"][:count], atol=1e-12, rtol=0.0)


def run_environment(episodes: int) -> list[tuple[str, list[Step]]]:
    """Run the committed policy in the gymnasium environment with the seeds and noise of a run: outcomes and steps."""
    session, noise = Session(read_artifact(ARTIFACT)), NoiseSource(0)
    environment = gymnasium.make("poco/PegInHole-v0", disable_env_checker=True)
    results = []
    for episode in range(episodes):
        observation, info = environment.reset(seed=episode)
        steps: list[Step] = []
        chunk = 0
        while info["outcome"] == "running":
            actions = session.run(observation, noise.sample(episode, chunk, session.noise_shape))
            observation, _, _, _, info = environment.step(actions)
            steps += info["steps"]
            chunk += 1
        results.append((info["outcome"], steps))
    environment.close()
    return results


def free_path(steps: list[Step] | tuple[Step, ...]) -> Floats:
    """Measured tip positions [N, 3] (m) at the beginnings of the control periods before the peg reaches the rim."""
    fields = read_artifact(ARTIFACT).specification.observation
    tips = np.array([unscale(fields, np.array(step.observation))[:3] for step in steps])
    low = np.flatnonzero(tips[:, 2] < ABOVE_RIM_M)
    return tips[: low[0] if len(low) else len(tips)]


def compare_with_environment(run: Run, count: int) -> None:
    """Success within 10 points, free-space tip paths within 1 mm."""
    episodes, environment = run.episodes()[:count], run_environment(count)
    rates = [
        sum(outcome == "success" for outcome in outcomes) / count
        for outcomes in ([episode.end.outcome for episode in episodes], [outcome for outcome, _ in environment])
    ]
    assert abs(rates[0] - rates[1]) <= 0.1, rates
    apart_m, samples = [], 0
    for episode, (_, steps) in zip(episodes, environment, strict=True):
        robot, simulated = free_path(episode.steps), free_path(steps)
        shared = min(len(robot), len(simulated))
        assert abs(len(robot) - len(simulated)) <= 1
        samples += shared
        apart_m.append(float(np.linalg.norm(robot[:shared] - simulated[:shared], axis=1).max()))
    print(f"success {rates[0]:.0%} on the arm, {rates[1]:.0%} in the environment, {count} episodes;", end=" ")
    print(f"free-space tip paths at most {1e3 * max(apart_m):.4f} mm apart in {samples} samples")
    assert samples > 10 * count
    assert max(apart_m) < 1e-3, f"largest distance of each episode in m: {apart_m}"


def test_environment_and_robot_path_agree(long_run: Run) -> None:
    """The same artifact with the same seeds and noise behaves alike in the environment and through the control interface."""
    compare_with_environment(long_run, COMPARED)


@pytest.mark.proof
def test_environment_and_robot_path_agree_at_length(tmp_path: Path) -> None:
    """The same over 100 episodes."""
    compare_with_environment(lockstep(tmp_path, "127.0.2.4", 100), 100)
