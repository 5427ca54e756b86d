"""TensorRT-RTX, which builds engines without a GPU, takes every graph of the tiny artifacts: weights as inputs, unrolled, half."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tensorrt_rtx_bindings as tensorrt

from poco.artifact import Artifact
from poco.engines.build import build_engine, configured
from vla.conftest import KINDS, Artifacts, Checkpoints
from vla.tiny_artifact import export, options_of

STEPS = 4
"""So many steps in one graph in half precision: an engine of ten takes longer to build and shows no more."""


def check_builds(artifact: Artifact) -> None:
    """Build prefix, step and the graph of all steps; the two that take weights as inputs hold none of them."""
    assert set(artifact.graphs) == {"prefix", "step", "chunk"}
    for name, graph in artifact.graphs.items():
        engine, _ = build_engine("tensorrt-rtx", graph, name)
        assert engine
    for name in ("step", "chunk"):
        inputs = next(graph.inputs for graph in artifact.manifest.graphs if graph.name == name)
        assert sum(item.source.startswith("tensor:") for item in inputs) == len(artifact.tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_every_graph_builds(artifacts: Artifacts, kind: str) -> None:
    """What is exported in single precision becomes engines, ten steps in one among them."""
    check_builds(artifacts(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_graph_builds_in_half_precision(checkpoints: Checkpoints, kind: str, tmp_path: Path) -> None:
    """What is exported in half precision becomes engines."""
    made = checkpoints(kind)
    check_builds(export(made, replace(options_of(made, tmp_path / "half"), precision="fp16", steps=STEPS)))


def test_tf32_is_off() -> None:
    """A build would use TF32 unless told otherwise, and ours is told."""
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
    assert builder.create_builder_config().get_flag(tensorrt.BuilderFlag.TF32)
    assert not configured(tensorrt, builder).get_flag(tensorrt.BuilderFlag.TF32)
