"""Sessions under the TensorRT backend, on a stand-in for the GPU: same chunks, few copies, swaps by address."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import stand_in_gpu
from poco.artifact import read_artifact
from poco.engines import cache as caches
from poco.errors import ArtifactError
from poco.runtime.backends import tensor_rt
from poco.runtime.backends.choice import choose_backend
from poco.runtime.backends.tensor_rt import TensorRt
from poco.runtime.run_flags import PACKAGED_CONFIG
from poco.runtime.session import Session
from poco.runtime.vla_session import VlaSession
from poco.settings import read_settings
from programs import ARTIFACT
from stand_in_gpu import Cuda
from toy_vla import TASKS, WIDTH, Toy, Weights

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
    seen = 3 * 3 * 20 * 24 * 4 + 3
    assert cuda.copied == {1: 2 * (NOISE.nbytes + 4 * WIDTH) + seen, 2: 2 * NOISE.nbytes}


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


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"])
def test_a_backend_that_is_not_there_is_refused_or_replaced_aloud(backend: str) -> None:
    """On this computer without GPU the run is refused with what to install; with the flag the CPU computes and the run says so."""
    settings = read_settings(PACKAGED_CONFIG, {"inference.backend": backend})
    with pytest.raises(ArtifactError, match=r"install.*--inference.fall_back true"):
        choose_backend(settings.inference)
    settings = read_settings(PACKAGED_CONFIG, {"inference.backend": backend, "inference.fall_back": "true"})
    chosen = choose_backend(settings.inference)
    assert chosen.backend.facts["backend"] == "onnxruntime-cpu"
    assert f"in place of {backend}" in chosen.sentence
    chosen = choose_backend(read_settings(PACKAGED_CONFIG, {}).inference)
    assert (chosen.remark, chosen.backend.facts["device"]) == ("", "1 thread")
