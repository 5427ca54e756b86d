"""The session gives the exported policy's chunks, swaps weights by one assignment and refuses what it cannot vouch for."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.artifact import Artifact, Manifest, Tensors
from poco.errors import ArtifactError
from poco.noise import NoiseSource
from poco.runtime.session import Session

OBSERVATION = np.linspace(-1.0, 1.0, 6, dtype=np.float32)
NOISE = NoiseSource(7).sample(0, 0, (5, 4))


def altered(artifact: Artifact, **changes: object) -> Artifact:
    """The artifact in memory with entries of its manifest replaced."""
    return replace(artifact, manifest=msgspec.structs.replace(artifact.manifest, **changes))


def other_tensors(artifact: Artifact) -> Tensors:
    """Weights of a second generation: everything a little larger, the output turned round."""
    tensors = {key: np.float32(1.1) * tensor.astype(np.float32) for key, tensor in artifact.tensors.items()}
    tensors["velocity_layer.weight"] *= -1
    return {**tensors}


def test_session_equals_the_policy(artifact: Artifact, checkpoint_folder: Path) -> None:
    """Over 64 cases the session's chunk is that of torch to 1e-5, whatever ran before."""
    import torch

    from poco.learner.checkpoint import read_checkpoint

    policy, session, noise = read_checkpoint(checkpoint_folder).policy, Session(artifact), NoiseSource(1)
    observations = np.random.default_rng(0).uniform(-1, 1, (64, 6)).astype(np.float32)
    for case, observation in enumerate(observations):
        start = noise.sample(0, case, session.noise_shape)
        with torch.inference_mode():
            expected = policy(torch.from_numpy(observation)[None], torch.from_numpy(start)[None])[0].numpy()
        actions = session.run(observation, start)
        assert actions.shape == (5, 4)
        np.testing.assert_allclose(actions, expected, atol=1e-5, rtol=0)


def test_runs_are_repeatable_and_results_are_the_callers(artifact: Artifact) -> None:
    """The same inputs give the same bits; a later run does not change an earlier result."""
    session = Session(artifact)
    session.warm_up()
    first = session.run(OBSERVATION, NOISE)
    kept = first.copy()
    second = session.run(-OBSERVATION, NOISE)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(session.run(OBSERVATION, NOISE), kept)


def test_rebinding_swaps_weights_and_back(artifact: Artifact) -> None:
    """The next run after `rebind` uses the new weights exactly, and the binding returned brings the old ones back."""
    session = Session(artifact)
    old = session.run(OBSERVATION, NOISE)
    tensors = other_tensors(artifact)
    following = session.prepare(tensors)
    np.testing.assert_array_equal(session.run(OBSERVATION, NOISE), old)
    previous = session.rebind(following)
    new = session.run(OBSERVATION, NOISE)
    assert float(np.max(np.abs(new - old))) > 0.01
    golden = {**artifact.golden, "observation": OBSERVATION[None], "noise": NOISE[None], "chunk": new[None]}
    fresh = Session(replace(artifact, tensors=tensors, golden=golden))
    np.testing.assert_array_equal(fresh.run(OBSERVATION, NOISE), new)
    assert session.rebind(previous) is following
    np.testing.assert_array_equal(session.run(OBSERVATION, NOISE), old)


def test_bound_weights_outlive_their_owner(artifact: Artifact) -> None:
    """The session keeps prepared tensors alive after the caller has dropped them."""
    session = Session(artifact)
    session.rebind(session.prepare(other_tensors(artifact)))
    expected = session.run(OBSERVATION, NOISE)
    for _ in range(20):
        other_tensors(artifact)
    np.testing.assert_array_equal(session.run(OBSERVATION, NOISE), expected)


def test_tensors_of_another_architecture_are_refused(artifact: Artifact) -> None:
    """Missing and surplus names, wrong shapes and types cannot be bound; the session goes on with the old ones."""
    session = Session(artifact)
    old = session.run(OBSERVATION, NOISE)
    good = artifact.tensors
    for tensors in (
        {key: value for key, value in good.items() if key != "mean"},
        {**good, "surplus": np.zeros(1, np.float32)},
        {**good, "mean": np.zeros(7, np.float32)},
        {**good, "mean": good["mean"].astype(np.float64)},
    ):
        with pytest.raises(ArtifactError, match="another architecture"):
            session.prepare(tensors)
    np.testing.assert_array_equal(session.run(OBSERVATION, NOISE), old)


def test_golden_vectors_guard_the_session(artifact: Artifact) -> None:
    """Golden chunks off by more than the tolerance, missing, empty or misshapen stop the start; the sentence has both figures."""
    golden = artifact.golden
    shifted = {**golden, "chunk": golden["chunk"].astype(np.float32) + np.float32(2e-4)}
    with pytest.raises(ArtifactError, match=r"2\.0\de-04, the tolerance is 1e-04"):
        Session(replace(artifact, golden=shifted))
    with pytest.raises(ArtifactError, match="golden vectors"):
        Session(replace(artifact, golden={key: golden[key] for key in ("observation", "chunk")}))
    for other in ({**golden, "noise": golden["noise"][:3]}, {key: value[:0] for key, value in golden.items()}):
        with pytest.raises(ArtifactError, match="wrong shape"):
            Session(replace(artifact, golden=other))


def test_weights_that_give_other_chunks_are_caught(artifact: Artifact) -> None:
    """Tensors of the right shapes from another training run do not pass as this artifact."""
    with pytest.raises(ArtifactError, match="differ from its golden ones"):
        Session(replace(artifact, tensors=other_tensors(artifact)))


def test_graphs_that_do_not_fit_the_manifest_are_refused(artifact: Artifact) -> None:
    """A graph that is not ONNX, has other inputs or shapes than declared, or none of the known roles, does not start."""
    graph = artifact.manifest.graphs[0]

    def with_inputs(*inputs: object) -> Artifact:
        return altered(artifact, graphs=(msgspec.structs.replace(graph, inputs=inputs),))

    broken = replace(artifact, graphs={"policy": b"\x08\x0anot onnx"})
    with pytest.raises(ArtifactError, match="cannot open"):
        Session(broken)
    with pytest.raises(ArtifactError, match="not the manifest's"):
        Session(with_inputs(*graph.inputs[:-1]))
    camera = msgspec.structs.replace(graph.inputs[0], source="state")
    with pytest.raises(ArtifactError, match="observation and noise only"):
        Session(with_inputs(camera, *graph.inputs[1:]))
    wide = msgspec.structs.replace(graph.inputs[0], shape=(1, 7))
    with pytest.raises(ArtifactError, match=r"the specification wants \[6\]"):
        Session(with_inputs(wide, *graph.inputs[1:]))
    longer = msgspec.structs.replace(graph.inputs[2], shape=(7,))
    with pytest.raises(ArtifactError, match="the manifest says"):
        Session(with_inputs(*graph.inputs[:2], longer, *graph.inputs[3:]))


def test_policies_of_another_kind_are_refused(artifact: Artifact) -> None:
    """Two-graph policies, another chunk length and a missing noise shape are said to be so."""
    specification = msgspec.structs.replace(artifact.specification, chunk_steps=6)
    manifest: Manifest = artifact.manifest
    for changes, sentence in (
        ({"policy": "prefix_step"}, "prefix_step"),
        ({"graphs": manifest.graphs * 2}, "2 graphs"),
        ({"noise_shape": None}, "observation and noise only"),
        ({"noise_shape": (4, 5)}, "one chunk of"),
        ({"specification": specification}, "chunk of"),
    ):
        with pytest.raises(ArtifactError, match=sentence):
            Session(altered(artifact, **changes))


def test_external_data_is_never_followed(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that names a file beside the working directory is refused, even where that file exists."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.ones((6, 20), np.float32)
    (tmp_path / "weight.bin").write_bytes(weight.tobytes())
    beside = onnx.TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=weight.shape)
    beside.data_location = TensorProto.EXTERNAL
    beside.external_data.add(key="location", value="weight.bin")
    shape = numpy_helper.from_array(np.array([1, 5, 4]), "shape")
    nodes = [
        helper.make_node("MatMul", ["observation", "weight"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["chunk"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)]
        for name, axes in (("observation", (1, 6)), ("chunk", (1, 5, 4)))
    ]
    graph = helper.make_graph(nodes, "policy", *ends, [beside, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    declared = msgspec.structs.replace(artifact.manifest.graphs[0], inputs=artifact.manifest.graphs[0].inputs[:1])
    golden: Tensors = {"observation": OBSERVATION[None], "chunk": (OBSERVATION @ weight).reshape(1, 5, 4)}
    tampered = replace(
        altered(artifact, graphs=(declared,), noise_shape=None),
        graphs={"policy": model.SerializeToString()},
        tensors={},
        golden=golden,
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="External data"):
        Session(tampered)
    weight_inside = numpy_helper.from_array(weight, "weight")
    model.graph.initializer[0].CopyFrom(weight_inside)
    Session(replace(tampered, graphs={"policy": model.SerializeToString()}))


def test_wrong_sizes_raise_before_inference(artifact: Artifact) -> None:
    """An observation or noise of a wrong size is a programming error."""
    session = Session(artifact)
    with pytest.raises(ValueError, match="reshape"):
        session.run(np.zeros(5, np.float32), NOISE)
    with pytest.raises(ValueError, match="reshape"):
        session.run(OBSERVATION, np.zeros((4, 4), np.float32))


def test_the_runtime_side_never_imports_torch(artifact: Artifact) -> None:
    """A process that reads an artifact and runs its session has neither torch nor onnx nor the exporter loaded."""
    program = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from poco.artifact import read_artifact; from poco.noise import NoiseSource; from poco.runtime.session import Session;"
        f"session = Session(read_artifact(Path({str(artifact.path)!r}))); session.warm_up();"
        "session.run(np.zeros(6, np.float32), NoiseSource(0).sample(0, 0, session.noise_shape));"
        "print(sorted({'torch', 'onnx', 'poco.export', 'poco.learner', 'gymnasium', 'mujoco'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inference_reports_to_nobody() -> None:
    """Importing ONNX Runtime starts no thread that would send telemetry, unless the operator asks for it."""
    program = (
        "import os, poco, numpy; before = len(os.listdir('/proc/self/task')); import onnxruntime; "
        "print(len(os.listdir('/proc/self/task')) - before, os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    silent = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    )
    assert silent.stdout.split() == ["0", "1"]
