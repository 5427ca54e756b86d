"""An environment in a process of its own does what it does in this one, and no way of failing stops or deceives the learner."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from poco.errors import PocoError, UsageError
from poco.learner import environment_frames as frames
from poco.learner.environment_pool import EnvironmentPool
from poco.learner.environment_process import RESTARTS_MAX, EnvironmentLost, EnvironmentProcess, Parameters
from poco.learner.evaluation import read_evaluations
from poco.learner.metrics import read_figures
from poco.learner.rollouts import Actor, Rolled, make_environment, roll
from poco.learner.training_commands import TASK as PEG
from poco.learner.training_commands import evaluate, train
from poco.noise import NoiseSource
from reach_task import SPECIFICATION, TASK
from recipes import reach_recipe

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def tests_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the reach task."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def noise_actor() -> Actor:
    return lambda observation, episode, chunk: np.tanh(NoiseSource(7).sample(episode, chunk, (5, 4)))


def started(tmp_path: Path, parameters: Parameters, count: int, answer_s: float = 60.0) -> list[EnvironmentProcess]:
    return [
        EnvironmentProcess(TASK, parameters, tmp_path / f"{number}.log", answer_s=answer_s) for number in range(count)
    ]


def by_number(episodes: Iterator[Rolled]) -> list[Rolled]:
    return sorted(episodes, key=lambda rolled: rolled.end.episode)


def test_episodes_are_the_same_wherever_and_beside_whatever_they_run(tmp_path: Path) -> None:
    """In this process, in one of its own and in three at once the same seven episodes happen, bit for bit."""
    here = list(roll(make_environment(TASK), noise_actor(), range(7), 40))
    processes = started(tmp_path, {}, 3)
    assert processes[0].specification == SPECIFICATION
    assert list(roll(processes[0], noise_actor(), range(7), 40)) == here
    pool = EnvironmentPool(processes, noise_actor, 40)
    assert by_number(pool.roll(range(7))) == here
    assert pool.idle == 3
    assert len({len(rolled.steps) for rolled in here}) > 1
    pool.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process.process, 0)
    assert "the reach task prints this" in (tmp_path / "0.log").read_text()


@pytest.mark.parametrize(("trouble", "count"), [("exit", 2), ("hang", 2), ("raise", 1)])
def test_a_lost_worker_is_replaced_and_plays_its_episode_again(tmp_path: Path, trouble: str, count: int) -> None:
    """One death, one hang beyond the deadline, one exception: every episode is there once, as if nothing had happened."""
    here = list(roll(make_environment(TASK), noise_actor(), range(4), 0))
    parameters: Parameters = {"trouble": trouble, "once": str(tmp_path / "happened")}
    first, *others = started(tmp_path, parameters, count, answer_s=0.5)
    pool = EnvironmentPool([first, *others], noise_actor, 0)
    assert by_number(pool.roll(range(4)) if others else roll(first, noise_actor(), range(4), 0)) == here
    assert (tmp_path / "happened").exists()
    pool.close()


def test_a_worker_that_is_always_lost_is_named(tmp_path: Path) -> None:
    """After some replacements in a row the run ends with one sentence that holds the worker's last words."""
    pool = EnvironmentPool(started(tmp_path, {"trouble": "raise"}, 1), noise_actor, 0)
    with pytest.raises(PocoError, match=rf"worker 0 failed.*has had enough.*{RESTARTS_MAX} times in a row"):
        list(pool.roll(range(1)))


def test_a_worker_killed_from_outside_is_replaced(tmp_path: Path) -> None:
    """kill -9 while the learner is busy with something else."""
    (process,) = started(tmp_path, {}, 1)
    pool = EnvironmentPool([process], noise_actor, 0)
    pool.begin(0)
    first = process.process
    os.kill(first, signal.SIGKILL)
    while (rolled := pool.collect(wait=True)) is None:
        pass
    assert rolled == next(roll(make_environment(TASK), noise_actor(), range(1), 0))
    assert process.process != first
    pool.close()


def test_what_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """No such task, no such parameter, no such Python, and a Python that lacks what the worker needs."""
    log = tmp_path / "log"
    for task, parameters in (("reach_task:Absent-v0", {}), ("no.such.module:X-v0", {}), (TASK, {"colour": "red"})):
        with pytest.raises(UsageError, match="cannot be made with"):
            EnvironmentProcess(task, dict(parameters), log)
    with pytest.raises(UsageError, match="cannot be started"):
        EnvironmentProcess(TASK, {}, log, tmp_path / "python")
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(UsageError, match="--env-python needs numpy, msgspec, pyyaml, gymnasium"):
        EnvironmentProcess(TASK, {}, log, bare)


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """A Python that has what a worker needs and nothing else of what is installed here."""
    suite = tmp_path / "suite"
    suite.mkdir()
    for name in ("numpy", "msgspec", "yaml", "gymnasium", "cloudpickle", "farama_notifications", "typing_extensions"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        place = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
        for needed in (place, place.with_name(f"{name}.libs")):
            if needed.exists():
                (suite / needed.name).symlink_to(needed)
    python = tmp_path / "other-python"
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH="{suite}:$PYTHONPATH"\nexec {sys.executable} -S -s "$@"\n')
    python.chmod(0o755)
    return python


def test_another_python_plays_the_same(tmp_path: Path, other_python: Path) -> None:
    """In a Python without torch, gymnasium's tasks do what they do here: by itself, while training and while evaluating."""
    for module, known in (("gymnasium", True), ("torch", False)):
        assert (subprocess.run([other_python, "-c", f"import {module}"], capture_output=True).returncode == 0) == known
    (process,) = started(tmp_path, {}, 1)
    other = EnvironmentProcess(TASK, {}, tmp_path / "other.log", other_python)
    here, there = (list(roll(one, noise_actor(), range(2), 40)) for one in (process, other))
    assert here == there
    process.close()
    other.close()
    recipe, rates = tmp_path / "recipe.yaml", []
    recipe.write_text(yaml.safe_dump(msgspec.to_builtins(reach_recipe(episodes=3))))
    for python in (None, other_python):
        out = tmp_path / str(python is None)
        train(out, recipe, env_python=python)
        evaluate(out, episodes=3, env_python=python)
        rates.append(read_evaluations(out))
    assert rates[0] == rates[1]
    assert read_figures(tmp_path / "True") == read_figures(tmp_path / "False")


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_frames_carry_messages_and_arrays(dtype: str) -> None:
    """What goes in comes out, arrays bit for bit."""
    ours, theirs = socket.socketpair()
    array: npt.NDArray[np.generic] = np.arange(24).reshape(2, 3, 4).astype(dtype)
    frames.send(ours, frames.Observed(frames.layout_of(array), reward=0.5), array)
    message, received = frames.receive(theirs, frames.Observed, 1.0)
    assert (message.reward, message.terminated, message.steps, message.end) == (0.5, False, [], None)
    assert received is not None
    assert received.dtype == array.dtype
    assert np.array_equal(received, array)


@given(st.binary(max_size=200))
def test_no_bytes_are_mistaken_for_a_frame(data: bytes) -> None:
    """Any bytes and a closed socket give FrameError or, where they happen to be one, a frame; nothing else."""
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(data)
        try:
            message, _ = frames.receive(theirs, frames.Request, 1.0)
        except frames.FrameError:
            return
        assert isinstance(message, frames.Make | frames.Reset | frames.Act)


def test_frames_that_lie_are_refused() -> None:
    """Too long, an array other than its layout says, half a frame and silence."""
    body = msgspec.msgpack.encode(frames.Act(frames.Layout("float32", (2, 2))))
    for data, sentence in (
        (struct.pack("<II", 1 << 31, 0), "the limit is"),
        (struct.pack("<II", len(body), 12) + body + bytes(12), "for the layout"),
        (struct.pack("<II", len(body), 16) + body, "in time"),
        (b"", "in time"),
    ):
        ours, theirs = socket.socketpair()
        ours.sendall(data)
        with pytest.raises(frames.FrameError, match=sentence):
            frames.receive(theirs, frames.Request, 0.05)


def test_an_answer_that_had_to_wait_is_taken(tmp_path: Path) -> None:
    """Larger than a socket holds, it lay there beyond its deadline while the learner had other work; the worker is kept."""
    process = EnvironmentProcess(PEG, {"image_side": 256}, tmp_path / "log", answer_s=0.2)
    process.ask(frames.Reset(0))
    while not process.overdue or not select.select([process], [], [], 1.0)[0]:
        pass
    seen = process.answer()
    assert seen.views is not None
    assert seen.views.images.shape[1:] == (2, 3, 256, 256)
    process.close()


def test_waiting_ends_at_the_deadline(tmp_path: Path) -> None:
    """A blocking step of a hanging worker raises EnvironmentLost."""
    (process,) = started(tmp_path, {"trouble": "hang"}, 1)
    process.reset(seed=0)
    chunk = np.zeros((5, 4), np.float32)
    process.step(chunk)
    process._answer_s = 0.2
    with pytest.raises(EnvironmentLost, match="in time"):
        process.step(chunk)
    process.close()
