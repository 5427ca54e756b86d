"""Sessions under the TensorRT backend, on a stand-in for the GPU: same chunks, few copies, swaps by address."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import stand_in_gpu
from poco.artifact import read_artifact
from poco.engines import cache as caches
from poco.errors import ArtifactError
from poco.runtime.actors import PolicyActor
from poco.runtime.backends import tensor_rt
from poco.runtime.backends.backend import Backend
from poco.runtime.backends.choice import build_missing, open_under
from poco.runtime.backends.tensor_rt import TensorRt
from poco.runtime.run_flags import PACKAGED_CONFIG
from poco.runtime.session import WARM_UP_RUNS, Session
from poco.runtime.vla_session import VlaSession
from poco.settings import read_settings
from programs import ARTIFACT
from stand_in_gpu import Cuda
from toy_vla import TASKS, WIDTH, Toy, Weights
from workshop import seen

DRAW = np.random.default_rng(2)
FRAMES = [DRAW.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(2)]
OBSERVATION = DRAW.uniform(-0.9, 0.9, 19).astype(np.float32)
NOISE = DRAW.standard_normal((10, WIDTH)).astype(np.float32)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """A computer whose GPU is the stand-in, and on which every engine is there: the graph itself."""
    cuda = Cuda()
    monkeypatch.setattr(tensor_rt, "cuda_runtime", lambda: cuda)
    for module in (tensor_rt, caches):
        monkeypatch.setattr(module, "load_library", lambda _: stand_in_gpu.library(cuda))
    monkeypatch.setattr(caches, "build_engine", lambda _, graph, where, timing=b"": (graph, b""))
    engine = caches.EngineCache.engine
    monkeypatch.setattr(
        caches.EngineCache,
        "engine",
        lambda self, graph, payload, target: engine(self, graph, payload, target, lambda _: None),
    )
    return cuda


@pytest.mark.parametrize("records", [True, False])
def test_a_vla_gives_the_same_chunks_and_keeps_keys_and_values_there(records: bool, cuda: Cuda, tmp_path: Path) -> None:
    """Three runs equal numpy, recorded or not; a run copies tokens, images, state and noise there and the chunk back, no more."""
    cuda.records = records
    toy = Toy("pi0", in_one=True)
    artifact = toy.write(tmp_path / "artifact")
    session = VlaSession(artifact, TASKS[0], TensorRt("tensorrt-rtx", str(tmp_path / "engines")))
    expected = toy.actions(TASKS[0], OBSERVATION, NOISE, FRAMES)
    for _ in range(3):
        np.testing.assert_allclose(session.run(OBSERVATION, NOISE, FRAMES), expected, atol=2e-5, rtol=0.0)
    assert (cuda.launched > 0) == records
    cuda.copied.update({1: 0, 2: 0})
    session.run(OBSERVATION, NOISE, FRAMES)
    assert cuda.copied == {1: NOISE.nbytes + 4 * WIDTH, 2: NOISE.nbytes}
    session.run(OBSERVATION, NOISE, FRAMES[::-1])
    pictures = 3 * 3 * 20 * 24 * 4 + 3
    assert cuda.copied == {1: 2 * (NOISE.nbytes + 4 * WIDTH) + pictures, 2: 2 * NOISE.nbytes}


def test_a_swap_is_another_set_of_addresses(cuda: Cuda, tmp_path: Path) -> None:
    """Recorded runs of two generations alternate without mixing, and a binding that is dropped gives its memory back."""
    toy = Toy(in_one=True)
    artifact = toy.write(tmp_path / "artifact")
    session = VlaSession(artifact, TASKS[0], TensorRt("tensorrt", str(tmp_path / "engines")))
    held = cuda.held
    expert: Weights = {key: (value * np.float32(1.2)).astype(np.float32) for key, value in toy.trained.items()}
    other = session.prepare(expert)
    assert cuda.held == held + len(expert)
    for _ in range(4):
        for weights in (expert, None):
            other = session.rebind(other)
            actual = session.run(OBSERVATION, NOISE, FRAMES)
            expected = toy.actions(TASKS[0], OBSERVATION, NOISE, FRAMES, weights)
            np.testing.assert_allclose(actual, expected, atol=2e-5, rtol=0.0)
    del other
    gc.collect()
    assert cuda.held == held


def test_a_plain_chunk_policy_runs_there_too(cuda: Cuda, tmp_path: Path) -> None:
    """The committed policy reproduces its golden chunks under the backend; its chunks are those of the CPU."""
    artifact = read_artifact(ARTIFACT)
    session = Session(artifact, TensorRt("tensorrt-rtx", str(tmp_path / "engines")))
    noise = DRAW.standard_normal(session.noise_shape).astype(np.float32)
    expected = Session(artifact).run(OBSERVATION, noise)
    for _ in range(3):
        np.testing.assert_allclose(session.run(OBSERVATION, noise), expected, atol=1e-6, rtol=0.0)


def test_what_cannot_be_loaded_is_a_refusal(cuda: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that the library does not take, or with other inputs than declared, names the remedy."""
    artifact = Toy().write(tmp_path / "artifact")
    for plan, words in ((b"of another GPU", "cannot be loaded"), (artifact.graphs["step"], "what is declared")):
        monkeypatch.setattr(caches, "build_engine", lambda *_, plan=plan: (plan, b""))
        with pytest.raises(ArtifactError, match=words):
            VlaSession(artifact, TASKS[0], TensorRt("tensorrt", str(tmp_path / words.replace(" ", "_"))))


def opened(backend: Backend) -> PolicyActor:
    """The committed policy as a run opens it."""
    return PolicyActor(read_artifact(ARTIFACT), seed=0, backend=backend)


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"])
def test_a_backend_that_is_not_there_is_refused_or_replaced_aloud(backend: str) -> None:
    """On this computer without GPU the run is refused with what to install; with the flag the CPU computes and the run says so."""
    settings = read_settings(PACKAGED_CONFIG, {"inference.backend": backend})
    with pytest.raises(ArtifactError, match=r"install.*--inference.fall_back true"):
        open_under(settings.inference, opened)
    settings = read_settings(PACKAGED_CONFIG, {"inference.backend": backend, "inference.fall_back": "true"})
    _, chosen = open_under(settings.inference, opened)
    assert chosen.backend.facts["backend"] == "onnxruntime-cpu"
    assert f"in place of {backend}" in chosen.sentence
    _, chosen = open_under(read_settings(PACKAGED_CONFIG, {}).inference, opened)
    assert (chosen.remark, chosen.backend.facts["device"]) == ("", "1 thread")


@pytest.mark.parametrize("runs", [0, 1, WARM_UP_RUNS])
def test_a_backend_that_fails_before_motion_is_refused_or_replaced_aloud(runs: int, cuda: Cuda, tmp_path: Path) -> None:
    """At the first golden vector, when it is recorded or while it warms up: refused, or the CPU computes; its memory is free."""
    flags = {"inference.backend": "tensorrt-rtx", "inference.engines": str(tmp_path / "engines")}
    cuda.runs = runs
    with pytest.raises(ArtifactError, match=r"(TensorRT|launching).*--inference.fall_back true"):
        open_under(read_settings(PACKAGED_CONFIG, flags).inference, opened)
    cuda.runs = runs
    settings = read_settings(PACKAGED_CONFIG, {**flags, "inference.fall_back": "true"})
    actor, chosen = open_under(settings.inference, opened)
    assert chosen.remark.startswith("in place of tensorrt-rtx: ")
    moment = seen(0, 0, OBSERVATION)
    alone, _ = open_under(read_settings(PACKAGED_CONFIG, {}).inference, opened)
    np.testing.assert_array_equal(actor.choose(moment), alone.choose(moment))
    gc.collect()
    assert cuda.held == 0


def test_an_artifact_that_is_broken_everywhere_is_not_blamed_on_the_backend(cuda: Cuda, tmp_path: Path) -> None:
    """Golden vectors that nothing reproduces are refused with and without the flag, on the CPU without mentioning it."""
    artifact = read_artifact(ARTIFACT)
    broken = replace(artifact, golden={**artifact.golden, "chunk": artifact.golden["chunk"] + 1})
    flags = {"inference.engines": str(tmp_path / "engines"), "inference.fall_back": "true"}
    for backend in ("tensorrt", "onnxruntime-cpu"):
        settings = read_settings(PACKAGED_CONFIG, {**flags, "inference.backend": backend})
        with pytest.raises(ArtifactError, match="golden") as refused:
            open_under(settings.inference, lambda backend: Session(broken, backend))
        assert "fall_back" not in str(refused.value)


def test_engines_that_cannot_be_built_are_told_of() -> None:
    """Where the CPU may take the place, the run says before it begins why there is no engine; where it may not, it is refused."""
    artifact, told = read_artifact(ARTIFACT), list[str]()
    flags = {"inference.backend": "tensorrt"}
    with pytest.raises(ArtifactError, match="cuda-python"):
        build_missing(artifact, read_settings(PACKAGED_CONFIG, flags).inference, told.append)
    flags["inference.fall_back"] = "true"
    build_missing(artifact, read_settings(PACKAGED_CONFIG, flags).inference, told.append)
    assert [line.split(":")[0] for line in told] == ["no engine for tensorrt, the CPU takes its place"]


def test_an_onnx_runtime_without_cuda_is_refused_before_any_process_starts() -> None:
    """With the remedy; where the CPU may take the place, the run goes on to say so itself."""
    artifact, told = read_artifact(ARTIFACT), list[str]()
    flags = {"inference.backend": "onnxruntime-cuda"}
    with pytest.raises(ArtifactError, match="was built without CUDA: install onnxruntime-gpu"):
        build_missing(artifact, read_settings(PACKAGED_CONFIG, flags).inference, told.append)
    flags["inference.fall_back"] = "true"
    build_missing(artifact, read_settings(PACKAGED_CONFIG, flags).inference, told.append)
    assert told == []
