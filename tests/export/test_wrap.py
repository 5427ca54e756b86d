"""Any closed ONNX chunk policy becomes an artifact that the session runs; everything else is refused with one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from poco.errors import ArtifactError, PocoError, UsageError
from poco.export.wrap import Names, wrap_model
from poco.runtime.session import Session
from poco.specification import Specification

Axes = Sequence[int | str]

WEIGHT = np.linspace(-0.5, 0.5, 6 * 20, dtype=np.float32).reshape(6, 20)


def value(name: str, axes: Axes, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, axes)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    *,
    domains: Sequence[str] = ("",),
    chunk_shape: Sequence[int] = (1, 5, 4),
    weight: np.ndarray[Any, Any] = WEIGHT,
) -> onnx.ModelProto:
    """A model with the constants `weight` and `chunk_shape`."""
    constants = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.array(chunk_shape, dtype=np.int64), "chunk_shape"),
    ]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, constants)
    imports = [helper.make_opsetid(domain, 18 if domain == "" else 1) for domain in domains]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def act_like(observation: Axes = ("batch", 6), actions: Axes = ("batch", 5, 4), **parameters: Any) -> onnx.ModelProto:
    """Observation to actions, as ACT: tanh(observation @ weight) as a chunk."""
    nodes = [
        helper.make_node("MatMul", ["state", "weight"], ["product"]),
        helper.make_node("Tanh", ["product"], ["flat"]),
        helper.make_node("Reshape", ["flat", "chunk_shape"], ["actions"]),
    ]
    return model(nodes, [value("state", observation)], [value("actions", actions)], **parameters)


def diffusion_like(noise: Axes = (1, 5, 4)) -> onnx.ModelProto:
    """Noise and observation to actions, as Diffusion Policy: the noise, much reduced, about an ACT-like mean."""
    nodes = [
        helper.make_node("MatMul", ["state", "weight"], ["product"]),
        helper.make_node("Tanh", ["product"], ["flat"]),
        helper.make_node("Reshape", ["flat", "chunk_shape"], ["mean"]),
        helper.make_node("Constant", [], ["tenth"], value_float=0.1),
        helper.make_node("Mul", ["sample", "tenth"], ["rest"]),
        helper.make_node("Add", ["mean", "rest"], ["actions"]),
    ]
    return model(nodes, [value("sample", noise), value("state", (1, 6))], [value("actions", (1, 5, 4))])


def saved(graph: onnx.ModelProto, folder: Path) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(graph.SerializeToString())
    return file


def test_act_like_policy_runs(specification: Specification, tmp_path: Path) -> None:
    """One input with a free batch axis: the artifact takes no noise, cannot be swapped, and the session gives its numbers."""
    artifact = wrap_model(saved(act_like(), tmp_path), specification, tmp_path / "out")
    assert (artifact.manifest.swappable, artifact.manifest.noise_shape, artifact.tensors) == (False, None, {})
    assert artifact.manifest.graphs[0].inputs[0].shape == (1, 6)
    observation = np.linspace(-1, 1, 6, dtype=np.float32)
    actions = Session(artifact).run(observation, np.ones((5, 4), np.float32))
    np.testing.assert_allclose(actions, np.tanh(observation @ WEIGHT).reshape(5, 4), atol=1e-6)


def test_diffusion_like_policy_runs(specification: Specification, tmp_path: Path) -> None:
    """Noise and observation are told apart by their shapes and bound; the session's chunk follows both."""
    artifact = wrap_model(saved(diffusion_like(), tmp_path), specification, tmp_path / "out")
    assert {item.name: item.source for item in artifact.manifest.graphs[0].inputs} == {
        "state": "observation",
        "sample": "noise",
    }
    assert artifact.manifest.noise_shape == (5, 4)
    observation, noise = np.linspace(-1, 1, 6, dtype=np.float32), np.arange(20, dtype=np.float32).reshape(5, 4)
    actions = Session(artifact).run(observation, noise)
    np.testing.assert_allclose(actions, np.tanh(observation @ WEIGHT).reshape(5, 4) + 0.1 * noise, atol=1e-6)


@pytest.mark.parametrize(
    ("observation", "actions", "chunk_shape"),
    [
        ((6,), (5, 4), (5, 4)),
        ((1, 6), (1, 5, 4), (1, 5, 4)),
        ((1, 1, 6), ("batch", "time", "axis"), (1, 5, 4)),
        (("batch", "features"), ("batch", 5, 4), (1, 5, 4)),
        (("batch", 6), (1, 1, 5, 4), (1, 1, 5, 4)),
    ],
)
def test_axes_of_one_and_free_axes_are_resolved(
    specification: Specification, tmp_path: Path, observation: Axes, actions: Axes, chunk_shape: Sequence[int]
) -> None:
    """Shapes with leading ones, without a batch axis or with free axes that the specification fixes all run."""
    graph = act_like(observation, actions, chunk_shape=chunk_shape)
    artifact = wrap_model(saved(graph, tmp_path), specification, tmp_path / "out")
    assert artifact.manifest.graphs[0].outputs[0].shape == tuple(chunk_shape)
    assert Session(artifact).run(np.zeros(6, np.float32), np.zeros((5, 4), np.float32)).shape == (5, 4)


def two_alike() -> onnx.ModelProto:
    """Two outputs of the chunk's shape."""
    graph = act_like()
    graph.graph.node.append(helper.make_node("Neg", ["actions"], ["opposite"]))
    graph.graph.output.append(value("opposite", (1, 5, 4)))
    return graph


def test_flags_say_what_shapes_do_not(specification: Specification, tmp_path: Path) -> None:
    """Two outputs of one shape need --actions; the other output is left out of the artifact."""
    file = saved(two_alike(), tmp_path)
    with pytest.raises(UsageError, match="--actions"):
        wrap_model(file, specification, tmp_path / "out")
    artifact = wrap_model(file, specification, tmp_path / "out", Names(actions="opposite"))
    assert [item.name for item in artifact.manifest.graphs[0].outputs] == ["opposite"]
    np.testing.assert_allclose(
        Session(artifact).run(np.full(6, 0.5, np.float32), np.zeros((5, 4), np.float32)),
        -np.tanh(np.full(6, 0.5, np.float32) @ WEIGHT).reshape(5, 4),
        atol=1e-6,
    )
    for names in (Names(observation="absent"), Names(noise="absent"), Names(actions="absent")):
        with pytest.raises(UsageError, match="absent"):
            wrap_model(file, specification, tmp_path / "other", names)


def external(folder: Path) -> onnx.ModelProto:
    """A model whose weight lies in a file beside it."""
    graph = act_like()
    (folder / "weight.bin").write_bytes(WEIGHT.tobytes())
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weight.bin")
    return graph


def inner_external(folder: Path) -> onnx.ModelProto:
    """The same inside a branch of an If node."""
    hidden = external(folder).graph.initializer[0]
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["chosen"])], "branch", [], [value("chosen", (6, 20))]
    )
    hidden.name = "inner"
    branch.initializer.append(hidden)
    graph = act_like()
    condition = numpy_helper.from_array(np.array(True), "condition")
    graph.graph.initializer.append(condition)
    graph.graph.node.insert(
        0, helper.make_node("If", ["condition"], ["chosen_weight"], then_branch=branch, else_branch=branch)
    )
    graph.graph.node[1].input[1] = "chosen_weight"
    return graph


def foreign_operator() -> onnx.ModelProto:
    nodes = [helper.make_node("Plan", ["state"], ["actions"], domain="com.example")]
    return model(nodes, [value("state", (1, 6))], [value("actions", (1, 5, 4))], domains=("", "com.example"))


def own_random_numbers() -> onnx.ModelProto:
    nodes = [helper.make_node("RandomNormal", [], ["actions"], shape=[1, 5, 4])]
    return model(nodes, [value("state", (1, 6))], [value("actions", (1, 5, 4))])


def integer_input() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["state"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["real", "weight"], ["flat"]),
        helper.make_node("Reshape", ["flat", "chunk_shape"], ["actions"]),
    ]
    return model(nodes, [value("state", (1, 6), TensorProto.INT64)], [value("actions", (1, 5, 4))])


def length_from_data() -> onnx.ModelProto:
    """A chunk that is as long as the first three observations are negative."""
    graph = act_like(actions=("batch", "time", 4))
    graph.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([0, 1, 2]), "first"),
            numpy_helper.from_array(np.array([-1]), "line"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
        ]
    )
    graph.graph.node[-1].output[0] = "whole"
    graph.graph.node.extend(
        [
            helper.make_node("Gather", ["state", "first"], ["some"], axis=1),
            helper.make_node("Reshape", ["some", "line"], ["row"]),
            helper.make_node("Less", ["row", "zero"], ["kept"]),
            helper.make_node("Compress", ["whole", "kept"], ["actions"], axis=1),
        ]
    )
    return graph


def three_inputs() -> onnx.ModelProto:
    graph = diffusion_like()
    graph.graph.input.append(value("task", (1, 3)))
    return graph


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (act_like((1, 7), weight=np.zeros((7, 20), np.float32)), "wants an observation"),
        (act_like(("batch", "time", 6)), "only the batch axis may be free"),
        (act_like(actions=(1, 4, 5), chunk_shape=(1, 4, 5)), "wants actions"),
        (length_from_data(), r"has the shape \[1, \d, 4\]"),
        (act_like(weight=np.full((6, 20), np.nan, np.float32)), "not finite"),
        (act_like(("batch", "features"), weight=np.zeros((7, 20), np.float32)), "does not run"),
        (diffusion_like((1, 1, 4)), "wants an observation"),
        (three_inputs(), "an observation and possibly noise"),
        (foreign_operator(), r"com\.example\.Plan"),
        (own_random_numbers(), "RandomNormal"),
        (integer_input(), "float32"),
    ],
)
def test_unfit_models_are_refused(
    specification: Specification, tmp_path: Path, graph: onnx.ModelProto, sentence: str
) -> None:
    """Wrong or unresolvable shapes, wrong types, foreign or random operators and non-finite output: nothing is written."""
    with pytest.raises(ArtifactError, match=sentence) as caught:
        wrap_model(saved(graph, tmp_path), specification, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [external, inner_external])
def test_external_data_is_refused(specification: Specification, tmp_path: Path, make: Any) -> None:
    """Weights in a second file are refused wherever in the graph they are named."""
    with pytest.raises(ArtifactError, match="external data"):
        wrap_model(saved(make(tmp_path), tmp_path), specification, tmp_path / "out")


@pytest.mark.parametrize("payload", [b"", b"\x80\x04not a model", b"PK\x03\x04" + bytes(100), b"{}"])
def test_files_that_are_not_onnx_are_refused(specification: Specification, tmp_path: Path, payload: bytes) -> None:
    """Empty files, pickles, archives and text are not models; neither is a missing file or a folder."""
    (tmp_path / "model.onnx").write_bytes(payload)
    with pytest.raises(ArtifactError, match="not an ONNX file"):
        wrap_model(tmp_path / "model.onnx", specification, tmp_path / "out")
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(PocoError, match="no model at"):
            wrap_model(path, specification, tmp_path / "out")
