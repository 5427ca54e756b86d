"""The committed artifact of a tiny SmolVLA is whole, small, and holds what the robot side needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poco.artifact import Artifact, read_artifact
from poco.export.publish import TRAINED_FILE
from poco.runtime.backends.onnx_runtime import HostMemory, OnnxRuntimeCpu
from poco.runtime.graph_check import check_operators
from poco.runtime.session import constants_of
from poco.runtime.weights import map_tensors
from poco.specification import read_specification

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "artifacts" / "tiny_smolvla"


@pytest.fixture(scope="module")
def tiny() -> Artifact:
    return read_artifact(FOLDER)


def test_it_is_small() -> None:
    """Less than a megabyte lies in the repository."""
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 1_000_000


def test_it_is_of_the_specification_in_configs(tiny: Artifact) -> None:
    """State and action are the fields of the peg-in-hole task, so that the simulated arm can run it."""
    assert tiny.specification == read_specification(ROOT / "configs" / "peg_in_hole_specification.yaml")
    vla = tiny.manifest.vla
    assert vla is not None
    assert (vla.state.size, vla.action.size) == (tiny.specification.observation_size, tiny.specification.action_size)


def test_what_was_measured_is_in_it(tiny: Artifact) -> None:
    """Three prompt lengths and every camera masked off, all within the tolerance; each input moves the actions 100 times that."""
    vla = tiny.manifest.vla
    assert vla is not None
    assert vla.parity is not None
    assert len({case.prompt_tokens for case in vla.parity.cases}) >= 3
    assert {case.masked for case in vla.parity.cases} == {None, *(item.key for item in vla.cameras)}
    assert vla.parity.error < vla.parity.tolerance
    assert set(vla.parity.sensitivity) == {"images", "task", "state", "image_mask"}
    assert min(vla.parity.sensitivity.values()) > 100 * vla.parity.error


def test_graphs_feed_each_other(tiny: Artifact) -> None:
    """Keys, values and padding go from the prefix to step and chunk; the weights of both are the trained tensors."""
    prefix, step, chunk = tiny.manifest.graphs
    made = {f"graph:{item.name}": item.shape for item in prefix.outputs}
    for graph in (step, chunk):
        assert {item.source: item.shape for item in graph.inputs if item.source.startswith("graph:")} == made
        assert {item.tensor for item in graph.inputs} - {None} == set(tiny.tensors)
    assert all(item.tensor is None for item in prefix.inputs)


def test_a_swap_copies_no_weights(tiny: Artifact) -> None:
    """Tensors mapped from its file are bound where they lie, those that the network has the other way round too."""
    tensors = map_tensors(FOLDER / TRAINED_FILE)
    step = tiny.manifest.graphs[1]
    assert sum(item.transposed for item in step.inputs) > 10
    constants = constants_of(OnnxRuntimeCpu(), step, tensors)
    for item in step.inputs:
        if item.tensor is not None:
            memory = constants[item.name]
            assert isinstance(memory, HostMemory)
            assert np.shares_memory(memory.array, tensors[item.tensor])


def test_the_gate_takes_its_operators(tiny: Artifact) -> None:
    """No graph uses an operator that a robot refuses in what is offered to it."""
    for graph in tiny.graphs.values():
        check_operators(graph)
