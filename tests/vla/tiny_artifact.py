"""Make the artifact of a tiny policy, as `make tiny-vla` does for the committed one.

Usage: PYTHONPATH=tests python -m vla.tiny_artifact TYPE OUT [FOLDER]    keeps what it was made of in FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from poco.artifact import Artifact, Graph, Tensors
from poco.export.vla.exporting import export_vla
from poco.export.vla.options import Progress, VlaOptions
from poco.learner.vla.layout import turned
from vla.tiny import SPECIFICATION, Made, make, tiny_sizes


def options_of(made: Made, out: Path) -> VlaOptions:
    """What a user would give for the checkpoint `made`."""
    return VlaOptions(
        checkpoint=made.checkpoint,
        specification=SPECIFICATION,
        out=out,
        tokenizer=made.tokenizer,
        vlm=made.vlm,
    )


def export(made: Made, options: VlaOptions) -> Artifact:
    """Export with LeRobot's classes shrunk; prints the progress."""
    with tiny_sizes(made):
        return export_vla(options, Progress(lambda line: print(line, flush=True)))


def as_artifact(graphs: tuple[Graph, ...], state: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the weights that `graphs` take out of the state dict `state`, in the layout of an artifact."""
    inputs = [item for graph in graphs for item in graph.inputs if item.tensor in state]
    return {str(item.tensor): np.ascontiguousarray(turned(state[str(item.tensor)].numpy(), item)) for item in inputs}


def main() -> None:
    """Make checkpoint and artifact."""
    kind, out, *kept = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        made = make(kind, Path(*kept or [folder]))
        export(made, options_of(made, Path(out)))


if __name__ == "__main__":
    main()
