"""A vision-language-action policy drives the emulated arm as any other does: told a task, through cameras, replaced meanwhile."""

from __future__ import annotations

import ctypes.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from poco.episodes import read_episode
from poco.noise import NoiseSource
from poco.runtime.gate import read_verdicts
from poco.runtime.run_events import CameraOpened, CameraStale, InferenceOpened
from poco.runtime.run_folder import EpisodeEnded, Fault, RunFolder
from poco.succession import Floats
from programs import ROOT, StartProgram, is_sentence
from toy_vla import TASKS, Toy
from watched import Watched
from workshop import Workshop

TINY = ROOT / "artifacts" / "tiny_smolvla"
TOLERANCE = 1e-4

needs_rendering = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None and ctypes.util.find_library("OSMesa") is None,
    reason="neither libegl1 nor libosmesa6 is installed",
)


@needs_rendering
def test_it_sees_is_told_and_drives(start: StartProgram, tmp_path: Path) -> None:
    """From the command line to the end of an episode, through two cameras, in processes with neither torch nor transformers."""
    program = start(
        "poco-runtime",
        *("--robot", "sim", "--robot.host", "127.0.45.1", "--emulator.pacing", "lockstep"),
        *("--policy", TINY, "--task", "pick up the object", "--task.episode_steps", "30"),
        *("--out", tmp_path / "run"),
    )
    program.until(lambda: (tmp_path / "run" / "chunks.jsonl").is_file())
    maps = {name: Path(f"/proc/{process}/maps").read_text() for name, process in program.children().items()}
    assert (program.wait(), program.err) == (0, "")
    assert not any("libtorch" in text or "transformers" in text for text in maps.values())
    assert any("tokenizers" in text for name, text in maps.items() if name == "policy")
    assert "the policy is computed by onnxruntime-cpu" in program.out
    folder = RunFolder.open(tmp_path / "run")
    events = folder.events()
    assert [event.outcome for event in events if isinstance(event, EpisodeEnded)] == ["truncated"]
    assert {event.camera for event in events if isinstance(event, CameraOpened)} == {"near", "wrist"}
    assert not [event for event in events if isinstance(event, CameraStale | Fault)]
    (opened,) = (event for event in events if isinstance(event, InferenceOpened))
    assert (opened.facts["backend"], opened.remark) == ("onnxruntime-cpu", "")
    assert len(read_episode(next(folder.episodes.glob("*.safetensors"))).steps) == 30
    assert all(chunk.image_ns > 0 for chunk in folder.chunks())


def test_what_it_is_not_told_ends_the_run_before_it_begins(start: StartProgram, tmp_path: Path) -> None:
    """Without a task, and with a backend that is not there and may not be replaced, the run ends with a sentence and a code."""
    Toy(cameras=(None,)).write(tmp_path / "artifact")
    flags = ("--robot", "sim", "--robot.host", "127.0.45.3", "--policy", tmp_path / "artifact")
    for more, code, words in (
        ((), 2, "give --task"),
        (("--task", "go", "--inference.backend", "onnxruntime-cuda"), 4, "was built without CUDA"),
    ):
        program = start("poco-runtime", *flags, "--out", tmp_path / str(code), *more)
        assert program.wait() == code
        assert words in program.err
        assert is_sentence(program.err)
        assert not (tmp_path / str(code)).exists()


class ToyWorkshop(Workshop):
    """Makes generations of a toy, whose golden chunks come from numpy."""

    toy: Toy

    def golden(self, trained: Mapping[str, Floats]) -> dict[str, npt.NDArray[np.generic]]:
        return {**self.artifact.golden, **self.toy.golden_chunks(self.artifact.golden, dict(trained))}


@pytest.mark.parametrize("swaps", [8, pytest.param(100, marks=[pytest.mark.proof, pytest.mark.timeout(1800)])])
def test_generations_take_over_and_none_is_mixed(swaps: int, tmp_path: Path) -> None:
    """Live swaps of the expert, allowed to fall back: every chunk that was made is that of the generation it names, by numpy."""
    toy = Toy("pi0", cameras=(None,), in_one=True)
    workshop = ToyWorkshop(toy.write(tmp_path / "artifact"), tmp_path)
    workshop.toy = toy
    flags = [
        "--task",
        TASKS[0],
        "--swap.shadow_chunks",
        "2",
        "--swap.probation_episodes",
        "0",
        "--swap.distance_max",
        "2",
    ]
    flags += ["--inference.backend", "onnxruntime-cuda", "--inference.fall_back", "true", "--swap.inference_max_s", "1"]
    watched = Watched(workshop, "127.0.45.4", *flags, "--task.episode_steps", "60")
    try:
        for generation in range(watched.first + 1, watched.first + 1 + swaps):
            watched.offer(generation)
            watched.until(lambda: watched.chunks()[-1].generation == generation)  # noqa: B023
        seen = len(watched.chunks())
        watched.until(lambda: len(watched.chunks()) > seen + 20)
    finally:
        watched.program.end()
    assert {one.reason for one in read_verdicts(workshop.store.folder)} == {""}
    assert watched.stops() == []
    assert "in place of onnxruntime-cuda" in " ".join(watched.program.out.split())
    weights = {watched.first: toy.trained} | {
        generation: workshop.trained(generation) for generation in range(watched.first + 1, watched.first + 1 + swaps)
    }
    checked = assert_chunks(watched.folder, toy, weights)
    print(f"{swaps} swaps, {checked} chunks chosen again, 0 different")
    assert checked >= swaps
    assert {chunk.generation for chunk in watched.chunks()} == set(weights)


def assert_chunks(folder: RunFolder, toy: Toy, weights: Mapping[int, Mapping[str, Floats]]) -> int:
    """Choose every recorded chunk again with the weights of the generation it names; return how many there were."""
    noise, checked = NoiseSource(0), 0
    numbers: dict[int, int] = {}
    order: dict[int, tuple[int, int]] = {}
    for chunk in folder.chunks():
        order[chunk.chunk_id] = chunk.episode, numbers.get(chunk.episode, 0)
        numbers[chunk.episode] = order[chunk.chunk_id][1] + 1
    delay, execute = toy.specification.delay_steps, toy.specification.execute_steps
    for path in sorted(folder.episodes.glob("*.safetensors")):
        steps = read_episode(path).steps
        for first, step in enumerate(steps):
            begins = step.chunk_id and (first == 0 or steps[first - 1].chunk_id != step.chunk_id)
            if not begins or first < delay or first + execute > len(steps):
                continue
            episode, number = order[step.chunk_id]
            made = noise.sample(episode, number, (toy.length, 24))
            observation = np.array(steps[first - delay].observation, np.float32)
            expected = toy.actions(TASKS[0], observation, made, [], dict(weights[step.generation]))
            actual = np.array([one.action_policy for one in steps[first : first + execute]])
            np.testing.assert_allclose(actual, expected[:execute], atol=TOLERANCE, rtol=0.0)
            assert {one.generation for one in steps[first : first + execute]} == {step.generation}
            checked += 1
    return checked
