"""Compiled weights come to serve while the arm moves: all processes real, generation after generation, a compiler that dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from poco.artifact import read_artifact
from poco.runtime.benchmarks.swap_checks import Chooser, check_actions, check_names, episodes_of
from poco.runtime.compiled import FOLDER
from poco.runtime.run_events import WeightsCompared, WeightsMoved
from poco.runtime.run_folder import Event, Fault, Hold
from poco.succession import Floats
from programs import ARTIFACT, kill
from watched import Watched
from workshop import Workshop

GENERATIONS = 4
TOLERANCE = 1e-4
"""Of the committed policy's golden chunks: what compiled weights may differ by."""


class Run(Watched):
    """A run that takes generations at once, after a short shadow."""

    def __init__(self, workshop: Workshop, host: str, weights: str, *flags: str) -> None:
        trial = ("--swap.shadow_chunks", "2", "--swap.probation_episodes", "0")
        super().__init__(workshop, host, *trial, "--inference.weights", weights, *flags)

    def events(self) -> list[Event]:
        return self.folder.events()

    def moved(self, generation: int, weights: str) -> list[str]:
        """The states that the weights of `generation` have come to in that form."""
        moves = [event for event in self.events() if isinstance(event, WeightsMoved)]
        return [one.after for one in moves if (one.generation, one.weights) == (generation, weights)]

    def weights(self, generation: int) -> dict[str, Floats]:
        """What a generation chooses by: those that were offered were trained by their number."""
        if generation > self.first:
            return self.workshop.trained(generation)
        return {key: tensor.astype("float32") for key, tensor in self.workshop.artifact.tensors.items()}


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """The keys and the store of a robot that runs the committed policy."""
    return Workshop(read_artifact(ARTIFACT), tmp_path)


def test_each_generation_is_compiled_and_none_is_mixed(workshop: Workshop) -> None:
    """Every step is what the weights of the generation it names choose; a killed compiler delays nobody and is started again."""
    run = Run(workshop, "127.0.46.1", "compiled")
    try:
        last = run.first
        for last in range(run.first, run.first + GENERATIONS):
            if last > run.first:
                run.offer(last)
                run.until(lambda: run.chunks()[-1].generation == last)  # noqa: B023
            if last == run.first + 2:
                kill(run.program.children()["compiler"])
                continue
            run.until(lambda: "active" in run.moved(last, "compiled"))  # noqa: B023
            seen = len(run.chunks())
            run.until(lambda: len(run.chunks()) > seen + 3)  # noqa: B023
    finally:
        run.program.end()
    chunks, episodes = run.chunks(), episodes_of(run.folder)
    assert check_names(episodes, chunks)
    checked, told_apart = check_actions(Chooser(workshop.artifact, run.weights, 0), episodes, chunks, TOLERANCE)
    print(f"{checked} chunks chosen again, 0 different, {told_apart} told apart from the generation before")
    assert told_apart > 0
    assert run.moved(last, "compiled") == ["loaded", "shadow", "probation", "active"]
    assert run.moved(last, "inputs") == ["retired"]
    assert [one.after for one in run._moved_of(last)] == ["loaded", "shadow", "probation", "active"]
    assert not [event for event in run.events() if isinstance(event, Fault | WeightsCompared)]
    assert not [event for event in run.events() if isinstance(event, Hold)]


def test_what_measures_faster_here_serves(workshop: Workshop) -> None:
    """In real time, unless told otherwise: measured on this computer, reported, and that is what comes to serve."""
    run = Run(workshop, "127.0.46.2", "measure", "--emulator.pacing", "realtime")
    try:
        run.until(lambda: any(isinstance(event, WeightsCompared) for event in run.events()))
        (compared,) = (event for event in run.events() if isinstance(event, WeightsCompared))
        if compared.chosen == "compiled":
            run.until(lambda: "active" in run.moved(run.first, "compiled"))
    finally:
        run.program.end()
    assert f"{compared.chosen} serve on this computer" in " ".join(run.program.out.split())
    assert compared.pairs == 100
    assert compared.facts["backend"] == "onnxruntime-cpu"
    assert len(list((workshop.store.folder / FOLDER).glob("measured-*.json"))) == 1
    assert bool(run.moved(run.first, "compiled")) == (compared.chosen == "compiled")
