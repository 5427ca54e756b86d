"""TensorRT-RTX, which builds engines without a GPU, takes every graph of the tiny artifacts: weights as inputs, unrolled, half."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorrt_rtx_bindings as tensorrt

from vla.conftest import KINDS, Artifacts


def build(graph: bytes, folder: Path) -> int:
    """Return the bytes of the engine of `graph`; fails with the parser's words."""
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    file = folder / "graph.onnx"
    file.write_bytes(graph)
    assert parser.parse_from_file(str(file)), [str(parser.get_error(index)) for index in range(parser.num_errors)]
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    assert plan is not None
    return int(plan.nbytes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_graph_builds(artifacts: Artifacts, kind: str, tmp_path: Path) -> None:
    """Prefix, step and the graph of all steps become engines; the two that take weights as inputs hold none of them."""
    artifact = artifacts(kind)
    sizes = {name: build(graph, tmp_path) for name, graph in artifact.graphs.items()}
    assert set(sizes) == {"prefix", "step", "chunk"}
    for name in ("step", "chunk"):
        inputs = next(graph.inputs for graph in artifact.manifest.graphs if graph.name == name)
        assert sum(item.source.startswith("tensor:") for item in inputs) == len(artifact.tensors)
