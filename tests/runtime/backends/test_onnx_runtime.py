"""What ONNX Runtime is asked for on a CUDA device; what becomes of it there needs one."""

from __future__ import annotations

from poco.artifact import read_artifact
from poco.runtime.backends.onnx_runtime import cuda_options
from programs import ROOT


def test_single_precision_is_that_on_a_gpu_too() -> None:
    """TF32 is off for every graph; the one without tensors is recorded as a CUDA graph, those whose weights move are not."""
    graphs = read_artifact(ROOT / "artifacts" / "tiny_smolvla").manifest.graphs
    options = {graph.name: cuda_options(graph) for graph in graphs}
    assert {one["use_tf32"] for one in options.values()} == {"0"}
    assert {name: one["enable_cuda_graph"] for name, one in options.items()} == {
        "prefix": "1",
        "step": "0",
        "chunk": "0",
    }
