"""Engines are kept for one graph, library, GPU and driver, for their owner alone, and refused where anything is another one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from poco.artifact import read_artifact
from poco.engines import cache as caches
from poco.engines.build import Library
from poco.engines.build_all import build_engines, run_graphs
from poco.engines.cache import EngineCache, Target
from poco.engines.device import Device
from poco.errors import ArtifactError
from programs import ROOT

GRAPH = b"a graph"
TARGET = Target(library="tensorrt", version="10.13", device=Device(name="A", capability="8.9", driver="580.1"))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """What was built so far with which timing cache, in place of TensorRT, which no test computer has."""
    made: list[tuple[str, bytes]] = []

    def build(library: Library, graph: bytes, where: str, timing: bytes = b"") -> tuple[bytes, bytes]:
        made.append((where, timing))
        return b"plan of " + graph, timing + b"t"

    monkeypatch.setattr(caches, "build_engine", build)
    return made


def test_an_engine_is_built_once(tmp_path: Path, built: list[tuple[str, bytes]]) -> None:
    """The second time it comes from the folder, which is its owner's alone; another graph uses what was measured for the first."""
    folder, told = tmp_path / "engines", list[str]()
    first = EngineCache(str(folder)).engine("policy.onnx", GRAPH, TARGET, told.append)
    assert EngineCache(str(folder)).engine("policy.onnx", GRAPH, TARGET) == first
    assert first[0] == b"plan of a graph"
    assert len(told) == 1
    assert built == [("policy.onnx", b"")]
    EngineCache(str(folder)).engine("other.onnx", b"other", TARGET, told.append)
    assert built[1:] == [("other.onnx", b"t")]
    assert {oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {"0o600"}
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (msgspec.structs.replace(TARGET, version="11.4"), "was built for tensorrt 10.13"),
        (msgspec.structs.replace(TARGET, library="tensorrt-rtx"), "this is tensorrt-rtx"),
        (
            msgspec.structs.replace(TARGET, device=Device(name="B", capability="8.9", driver="580.1")),
            "this is tensorrt 10.13 on B",
        ),
        (
            msgspec.structs.replace(TARGET, device=Device(name="A", capability="8.9", driver="590.2")),
            "driver 580.1, this is",
        ),
    ],
)
def test_another_library_gpu_or_driver_is_a_refusal_with_the_remedy(
    target: Target, words: str, tmp_path: Path, built: list[tuple[str, bytes]]
) -> None:
    """What is there and what is here are both named, and so is the program that helps; nothing is built unasked."""
    cache = EngineCache(str(tmp_path / "engines"))
    with pytest.raises(ArtifactError, match=r"there is no engine of policy\.onnx"):
        cache.engine("policy.onnx", GRAPH, TARGET)
    cache.engine("policy.onnx", GRAPH, TARGET, lambda _: None)
    with pytest.raises(ArtifactError, match=words) as caught:
        cache.engine("policy.onnx", GRAPH, target)
    assert "poco-export engine" in str(caught.value)
    assert len(built) == 1


def test_an_engine_of_other_arithmetic_is_another_one(
    tmp_path: Path, built: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was built while TF32 was on is not taken for one without."""
    with monkeypatch.context() as before:
        before.setattr(caches, "ARITHMETIC", "float32 with TF32")
        EngineCache(str(tmp_path / "engines")).engine("policy.onnx", GRAPH, TARGET, lambda _: None)
    with pytest.raises(ArtifactError, match="poco-export engine"):
        EngineCache(str(tmp_path / "engines")).engine("policy.onnx", GRAPH, TARGET)


def test_what_others_could_have_written_is_not_loaded(tmp_path: Path, built: list[tuple[str, bytes]]) -> None:
    """A folder or file with rights for others, a link, a changed plan and damaged facts are refused."""
    folder = tmp_path / "engines"
    cache = EngineCache(str(folder))
    cache.engine("policy.onnx", GRAPH, TARGET, lambda _: None)
    (plan,) = folder.glob("*.plan")
    (facts,) = folder.glob("*.json")
    good, named = plan.read_bytes(), facts.read_bytes()
    plan.chmod(0o644)
    with pytest.raises(ArtifactError, match="chmod 600"):
        cache.engine("policy.onnx", GRAPH, TARGET)
    plan.chmod(0o600)
    plan.write_bytes(good + b"!")
    with pytest.raises(ArtifactError, match="is damaged"):
        cache.engine("policy.onnx", GRAPH, TARGET)
    beside = tmp_path / "beside"
    beside.write_bytes(good)
    plan.unlink()
    plan.symlink_to(beside)
    with pytest.raises(ArtifactError, match="owner alone"):
        cache.engine("policy.onnx", GRAPH, TARGET)
    plan.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        cache.engine("policy.onnx", GRAPH, TARGET)
    plan.write_bytes(good)
    plan.chmod(0o600)
    facts.write_bytes(b"{}")
    with pytest.raises(ArtifactError, match="does not name an engine"):
        cache.engine("policy.onnx", GRAPH, TARGET)
    facts.write_bytes(named)
    assert cache.engine("policy.onnx", GRAPH, TARGET)[0] == good
    folder.chmod(0o755)
    with pytest.raises(ArtifactError, match="chmod 700"):
        EngineCache(str(folder))


def test_tensorrt_rtx_builds_what_a_robot_runs(tmp_path: Path) -> None:
    """Prefix and chunk of the committed artifact become engines, with weights as inputs, where TensorRT-RTX is installed."""
    pytest.importorskip("tensorrt_rtx_bindings")
    artifact = read_artifact(ROOT / "artifacts" / "tiny_smolvla")
    assert [graph.name for graph in run_graphs(artifact.manifest)] == ["prefix", "chunk"]
    engines = build_engines(artifact, "tensorrt-rtx", str(tmp_path / "engines"), lambda _: None)
    assert [facts.graph for facts in engines] == ["prefix.onnx", "chunk.onnx"]
    assert all(facts.plan_bytes > 100_000 for facts in engines)
    cache, target = EngineCache(str(tmp_path / "engines")), engines[0].target
    with pytest.raises(ArtifactError, match=r"cannot read no.onnx"):
        cache.engine("no.onnx", b"no graph", target, lambda _: None)
