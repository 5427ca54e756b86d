"""Passes over ONNX graphs on a small step written by hand: weights become inputs, steps are composed, precision is halved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from poco.errors import ArtifactError
from poco.export.vla import tidy
from poco.export.vla.half import halved
from poco.export.vla.promote import promote
from poco.export.vla.tidy import optimised, tidied
from poco.export.vla.unroll import FINISHED, unroll
from poco.vla import Schedule

Floats = npt.NDArray[np.float32]

STEPS = 4
WIDTH = 3
SHAPE = (1, 2, WIDTH)
random = np.random.default_rng(1)
WEIGHTS: dict[str, Floats] = {
    "layer.weight": random.standard_normal((WIDTH, WIDTH), np.float32),
    "layer.bias": random.standard_normal(WIDTH, np.float32),
    "gate.weight": random.standard_normal((WIDTH, WIDTH), np.float32),
}
FREQUENCIES = np.array([1.0, 2.0, 4.0], np.float32)


def step() -> onnx.ModelProto:
    """sample, time and a context to tanh((sample + sin(time f)) W^T + b) + context G^T, the last part without sample and time."""
    nodes = [
        helper.make_node("Mul", ["time", "frequencies"], ["phase"], name="phase"),
        helper.make_node("Sin", ["phase"], ["wave"], name="wave"),
        helper.make_node("Add", ["sample", "wave"], ["placed"], name="placed"),
        helper.make_node("Transpose", ["layer.weight"], ["turned"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["placed", "turned"], ["product"], name="product"),
        helper.make_node("Add", ["product", "layer.bias"], ["sum"], name="sum"),
        helper.make_node("Tanh", ["sum"], ["bent"], name="bent"),
        helper.make_node("Transpose", ["gate.weight"], ["gate"], name="turn_gate", perm=[1, 0]),
        helper.make_node("MatMul", ["context", "gate"], ["known"], name="known"),
        helper.make_node("Add", ["bent", "known"], ["velocity"], name="velocity"),
    ]
    inputs = {"sample": SHAPE, "time": (1,), "context": SHAPE}
    graph = helper.make_graph(
        nodes,
        "step",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("velocity", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(value, name) for name, value in {**WEIGHTS, "frequencies": FREQUENCIES}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def velocity(sample: Floats, time: float, context: Floats, weights: Mapping[str, Floats]) -> Floats:
    placed = sample + np.sin(np.float32(time) * FREQUENCIES)
    result: Floats = (
        np.tanh(placed @ weights["layer.weight"].T + weights["layer.bias"]) + context @ weights["gate.weight"].T
    )
    return result


def run(model: onnx.ModelProto, given: Mapping[str, npt.NDArray[np.generic]]) -> Floats:
    session = onnxruntime.InferenceSession(tidied(model), providers=["CPUExecutionProvider"])
    result: Floats = session.run(None, dict(given))[0]
    return result


def values() -> tuple[Floats, Floats]:
    some = np.random.default_rng(2)
    return some.standard_normal(SHAPE, np.float32), some.standard_normal(SHAPE, np.float32)


def test_weights_become_inputs() -> None:
    """Named weights are inputs, transposed where the graph turned them; others stay inside; other weights give other results."""
    model = step()
    inputs = {item.name: item for item in promote(model, WEIGHTS)}
    assert set(inputs) == set(WEIGHTS)
    assert {name: item.transposed for name, item in inputs.items()} == {
        "layer.weight": True,
        "layer.bias": False,
        "gate.weight": True,
    }
    assert [item.name for item in model.graph.initializer] == ["frequencies"]
    assert "Transpose" not in {node.op_type for node in model.graph.node}
    model, (sample, context) = optimised(model), values()
    for scale in (1.0, -2.0):
        weights = {name: np.float32(scale) * value for name, value in WEIGHTS.items()}
        fed = {name: np.ascontiguousarray(value.T) for name, value in weights.items()}
        actual = run(model, {"sample": sample, "time": np.array([0.5], np.float32), "context": context, **fed})
        np.testing.assert_allclose(actual, velocity(sample, 0.5, context, weights), atol=1e-6)


def test_a_weight_that_is_read_both_ways_keeps_its_shape() -> None:
    """A weight that the graph reads as it is as well as turned is an input as it is."""
    model = step()
    model.graph.node[4].input[1] = "layer.weight"
    model.graph.node[8].input[1] = "turned"
    (item,) = (item for item in promote(model, {"layer.weight"}))
    assert not item.transposed
    onnx.checker.check_model(model, full_check=True)


def test_unrolled_steps_equal_a_loop() -> None:
    """Four composed steps give what four runs of one step give; what needs neither sample nor time is there once."""
    model = step()
    promote(model, WEIGHTS)
    unrolled = unroll(model, Schedule(steps=STEPS, start=1.0, end=0.0))
    sample, context = values()
    expected = sample
    for index in range(STEPS):
        expected = expected - velocity(expected, 1 - index / STEPS, context, WEIGHTS) / np.float32(STEPS)
    fed = {name: np.ascontiguousarray(value.T) for name, value in WEIGHTS.items()}
    for variant in (unrolled, optimised(unrolled)):
        assert [item.name for item in variant.graph.output] == [FINISHED]
        actual = run(variant, {"noise": sample, "context": context, **fed})
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    kinds = [node.op_type for node in unrolled.graph.node]
    assert (kinds.count("Tanh"), kinds.count("MatMul")) == (STEPS, STEPS + 1)
    assert "Sin" not in {node.op_type for node in optimised(unrolled).graph.node}


def test_half_keeps_what_goes_in_and_out() -> None:
    """Weights become float16 inputs, everything else stays float32, results move a little and not more."""
    model = step()
    weights = promote(model, WEIGHTS)
    half = halved(model, weights)
    types = {item.name: item.type.tensor_type.elem_type for item in half.graph.input}
    assert {types[name] for name in WEIGHTS} == {TensorProto.FLOAT16}
    assert {types[name] for name in ("sample", "time", "context")} == {TensorProto.FLOAT}
    sample, context = values()
    fed = {name: np.ascontiguousarray(value.T.astype(np.float16)) for name, value in WEIGHTS.items()}
    actual = run(half, {"sample": sample, "time": np.array([0.5], np.float32), "context": context, **fed})
    error = np.max(np.abs(actual - velocity(sample, 0.5, context, WEIGHTS)))
    assert 0 < error < 2e-2


def test_tidied_graphs_are_equal_byte_for_byte() -> None:
    """Names of the tracer and comments do not change the bytes, and so not the hash of the architecture."""
    plain, commented = step(), step()
    commented.producer_name = commented.graph.doc_string = commented.graph.node[0].doc_string = "traced at noon"
    commented.graph.node[1].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File ...")
    assert tidied(plain) == tidied(commented)


def test_a_graph_that_no_file_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with more bytes than protobuf writes gets a sentence with its size and the remedy; nothing is serialised."""
    monkeypatch.setattr(tidy, "FILE_BYTES_MAX", 100)
    with pytest.raises(ArtifactError, match=r"a file holds 0\.0: try --precision fp16"):
        tidied(step())
