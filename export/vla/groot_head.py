"""`poco-export groot-head`: the action head of a GR00T N1.7 as graphs, experimental; no robot of ours runs them without a backbone.

```
head.json             this module's HeadManifest
prefix.onnx           features [1, S, F] of the backbone, and which are real, to the context of the steps
step.onnx, chunk.onnx  velocity of one step; all steps in one; weights are inputs
trained.safetensors   these weights
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors.numpy import save

from poco.artifact import Graph, TensorFile, sha256
from poco.durable import write_durably
from poco.errors import UsageError
from poco.export.parity import SEED
from poco.export.publish import TRAINED_FILE, check_folder
from poco.export.vla.cases import Inputs
from poco.export.vla.check import TOLERANCES, GraphPolicy, demand, error_of
from poco.export.vla.options import Progress
from poco.export.vla.policy_graphs import PolicyGraphs, policy_graphs
from poco.learner.vla.adapter import library_version
from poco.learner.vla.groot import GrootHead, Head, library_actions, noise_of, read_head, schedule
from poco.vla import CHUNK, PREFIX, STEP, Parity, ParityCase, Schedule

MANIFEST, FORMAT = "head.json", "poco-groot-head-1"
NAMES = {MANIFEST, TRAINED_FILE, *(f"{name}.onnx" for name in (PREFIX, STEP, CHUNK))}
TOKENS = (8, 4096)
"""Fewest and most features that a head can be exported for."""

Tensors = dict[str, torch.Tensor]


class HeadManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be known of an exported head.

    It takes `features` f32 [1, S, F] and for each whether it is `real` and one of an image (`image_tokens`, bool [1, S]), `state`
    f32 [1, H, W] as LeRobot's preprocessor pads and normalises it, and noise [1, T, W]; it gives a normalised sample [1, T, W].
    """

    format: str
    embodiment: str
    embodiment_number: int
    schedule: Schedule
    graphs: tuple[Graph, ...]
    trained: TensorFile
    versions: dict[str, str]
    parity: Parity


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Where checkpoint and base model lie, where to write, for how many features, in how many steps (None: the checkpoint's)."""

    checkpoint: Path
    base: Path
    out: Path
    tokens: int
    steps: int | None = None


def export_head(options: HeadOptions, progress: Progress) -> HeadManifest:
    """Export the action head of the checkpoint that `options` name and return what was written beside it.

    Raises ArtifactError or UsageError with one sentence, before anything is written, for a checkpoint that is not whole and for
    graphs that do not give what the library's head gives.
    """
    low, high = TOKENS
    if not low <= options.tokens <= high:
        raise UsageError(f"--tokens is {options.tokens}, must lie in {low} to {high}")
    check_folder(options.out, NAMES)
    with progress.stage("build the head and read its weights") as facts:
        head, facts["bytes"] = read_head(options.checkpoint, options.base, options.steps)
        parameters = sum(item.numel() for item in head.parameters()) / 1e6
        facts["remark"] = f"{parameters:,.1f} million parameters, embodiment {head.embodiment.tag}"
    plan = schedule(head)
    exported = policy_graphs(GrootHead(), head, head_case(head, options.tokens, 0), plan, "fp32", True, progress)
    with progress.stage("compare with the library") as facts:
        graphs = GraphPolicy(exported.graphs, exported.payloads, exported.tensors, plan)
        parity = check_head(head, graphs, options.tokens)
        facts["remark"] = f"largest difference {parity.error:.1e} of the range of the actions"
    return _write(options.out, head, plan, exported, parity)


def check_head(head: Head, graphs: GraphPolicy, tokens: int) -> Parity:
    """Return how far `graphs` are from the library on features of three lengths, and how far each input moves the sample.

    Raises ArtifactError for graphs that are too far.
    """
    cases: list[ParityCase] = []
    for seed, length in enumerate((tokens, tokens * 2 // 3, tokens // 3)):
        case = head_case(head, tokens, seed, length)
        expected = library_actions(head, case, seed)[0].numpy()
        for actual in (graphs.steps(inputs_of(case)), graphs.chunk(inputs_of(case))):
            error = error_of(expected, actual)
            cases += [ParityCase(prompt_tokens=length, masked=None, error=error)]
    demand(cases, TOLERANCES["fp32"])
    case = head_case(head, tokens, 0, tokens * 2 // 3)
    sample = graphs.steps(inputs_of(case))
    changes: Mapping[str, torch.Tensor] = {
        "features": -case["features"],
        "real": case["real"].roll(1),
        "image_tokens": case["image_tokens"].roll(1),
        "state": -case["state"],
    }
    moved = {name: graphs.steps(inputs_of(case | {name: changed})) for name, changed in changes.items()}
    sensitivity = {name: error_of(sample, other) for name, other in moved.items()}
    return Parity(cases=tuple(cases), tolerance=TOLERANCES["fp32"], sensitivity=sensitivity)


def head_case(head: Head, tokens: int, seed: int, length: int | None = None) -> Tensors:
    """Return random inputs of every source with `length` real features, the second to fourth of them of an image."""
    config: Any = head.library.config
    draw = torch.Generator().manual_seed(SEED + seed)
    places = torch.arange(tokens)[None]
    noise = noise_of(head, seed)
    return {
        "features": torch.randn(1, tokens, config.backbone_embedding_dim, generator=draw),
        "real": places < (tokens if length is None else length),
        "image_tokens": (places >= 1) & (places < 4),
        "state": torch.rand(1, config.state_history_length, config.max_state_dim, generator=draw) * 2 - 1,
        "noise": noise,
        "sample": noise,
        "time": torch.zeros(1),
    }


def inputs_of(case: Tensors) -> Inputs:
    """Return `case` as graphs take it."""
    return Inputs({name: tensor.numpy() for name, tensor in case.items()}, case["state"].numpy())


def _write(out: Path, head: Head, plan: Schedule, exported: PolicyGraphs, parity: Parity) -> HeadManifest:
    import transformers

    weights = save({key: np.ascontiguousarray(tensor) for key, tensor in exported.tensors.items()})
    manifest = HeadManifest(
        format=FORMAT,
        embodiment=head.embodiment.tag,
        embodiment_number=head.embodiment.number,
        schedule=plan,
        graphs=exported.graphs,
        trained=TensorFile(file=TRAINED_FILE, sha256=sha256(weights), role="trained"),
        versions={
            "lerobot": library_version(),
            "transformers": transformers.__version__,
            "torch": str(torch.__version__),
        },
        parity=parity,
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, payload in exported.payloads.items():
        write_durably(out / f"{name}.onnx", payload)
    write_durably(out / TRAINED_FILE, weights)
    write_durably(out / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest
