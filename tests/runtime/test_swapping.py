"""Policies are replaced while the arm moves: all processes real, offers left as the link leaves them, keys and store real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from oracle import Share, judge
from poco.artifact import read_artifact
from poco.episodes import read_episode
from poco.runtime.benchmarks.live_run import ROUGH
from poco.runtime.gate import read_verdicts
from poco.runtime.run_folder import RunFolder
from poco.succession import Floats
from programs import ARTIFACT, Program, kill
from watched import Watched
from workshop import Workshop

SPEED_MAX_M_S = 0.25
MANY = 1000


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """The keys and the store of a robot that runs the committed policy."""
    return Workshop(read_artifact(ARTIFACT), tmp_path)


@pytest.fixture
def watch(workshop: Workshop) -> Iterator[Callable[..., Watched]]:
    """Start such a run; it is ended after the test."""
    running: list[Watched] = []

    def start(host: str, *flags: str) -> Watched:
        running.append(Watched(workshop, host, *flags))
        return running[-1]

    yield start
    for watched in running:
        watched.program.end()


def assert_no_mixture(folder: RunFolder) -> None:
    """Every step, tick and chunk names one generation, the same for the same chunk, and generations only come in order."""
    chunks = folder.chunks()
    of = {chunk.chunk_id: chunk.generation for chunk in chunks}
    assert all(before.generation <= after.generation for before, after in pairwise(chunks))
    named = 0
    for path in sorted(folder.episodes.glob("*.safetensors")):
        for step in read_episode(path).steps:
            assert step.chunk_id == 0 or step.generation == of[step.chunk_id]
            named += 1
    assert named
    commands = folder.ticks()["command"]
    pairs = zip(commands["chunk_id"].tolist(), commands["generation"].tolist(), strict=True)
    for chunk_id, generation in set(pairs):
        assert chunk_id not in of or generation == of[chunk_id]


def test_generations_take_over_while_the_arm_moves(watch: Callable[..., Watched], workshop: Workshop) -> None:
    """Eight generations drive one after the other without a hold, a fault or a limit broken; a killed gate costs nothing."""
    watched = watch("127.0.44.1", "--swap.shadow_chunks", "3", "--swap.probation_episodes", "0")
    last = watched.first
    for last in range(watched.first + 1, watched.first + 9):
        watched.offer(last)
        watched.until(lambda: watched.chunks()[-1].generation == last)  # noqa: B023
        if last == watched.first + 4:
            kill(watched.program.children()["gate"])
    seen = len(watched.chunks())
    watched.until(lambda: len(watched.chunks()) > seen + 20)
    watched.program.end()
    assert_no_mixture(watched.folder)
    ticks = watched.folder.ticks()
    verdict = judge(np.array(ticks["command"]["q"]), Share(), workshop.artifact.specification.tip, SPEED_MAX_M_S)
    assert not any(verdict.violations.values())
    assert watched.stops() == []
    assert watched.moves(last) == ["loaded", "shadow", "probation", "active"]
    assert {one.reason for one in read_verdicts(workshop.store.folder)} == {""}
    started_with = workshop.store.boot()
    assert started_with is not None
    assert started_with.manifest.generation == last


def test_what_does_badly_never_keeps_the_arm(watch: Callable[..., Watched], workshop: Workshop) -> None:
    """A frozen policy stays in shadow; one that a killed process was trying is not tried again; the operator is obeyed. An arm that
    begins anew from where the killed one had left the peg may press on the block."""
    trial = {"shadow_chunks": 8, "baseline_episodes": 0, "probation_episodes": MANY, "probation_episodes_max": MANY}
    flags = [word for key, value in trial.items() for word in (f"--swap.{key}", str(value))]
    watched = watch("127.0.44.2", *flags, *ROUGH)
    frozen, good, tried, newest = range(watched.first + 1, watched.first + 5)
    still: dict[str, Floats] = {
        key: (tensor * (tensor.ndim < 2)).astype(np.float32) for key, tensor in workshop.artifact.tensors.items()
    }
    watched.offer(frozen, still)
    watched.until(lambda: "rejected" in watched.moves(frozen))
    assert watched.reason(frozen).startswith(("frozen", "distance"))
    assert "probation" not in watched.moves(frozen)

    watched.offer(good)
    watched.until(lambda: watched.chunks()[-1].generation == good)
    veto = Program("poco-runtime", "veto", "--store", workshop.store.folder, folder=workshop.folder / "veto")
    assert veto.wait() == 0
    watched.until(lambda: "rejected" in watched.moves(good))
    watched.until(lambda: watched.chunks()[-1].generation == watched.first)
    assert watched.reason(good) == "operator"

    watched.offer(tried)
    watched.until(lambda: watched.chunks()[-1].generation == tried)
    kill(watched.program.children()["policy"])
    watched.until(lambda: watched.chunks()[-1].generation == watched.first)
    watched.offer(newest)
    watched.until(lambda: watched.chunks()[-1].generation == newest)
    assert watched.moves(tried) == ["loaded", "shadow", "probation"]
    assert watched.stops() == []
