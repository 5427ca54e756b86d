"""The stages of `poco-export vla`: read, build, export, compare, write. Nothing is written before everything has passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import torch

from poco.artifact import Artifact, Graph
from poco.export.vla.cases import Inputs, Raw, flipped, inputs_of, raw_cases
from poco.export.vla.check import (
    LEAST_SENSITIVITY_RATIO,
    TOLERANCES,
    GraphPolicy,
    compare,
    demand,
    library_sample,
)
from poco.export.vla.options import Progress, VlaOptions
from poco.export.vla.package import Golden, check_out, write_package
from poco.export.vla.policy_graphs import examples_of, policy_graphs
from poco.learner.vla.adapter import Adapter, Sizes
from poco.learner.vla.checkpoint import WEIGHTS, fill, open_checkpoint
from poco.learner.vla.network import camera_names
from poco.learner.vla.opening import ADAPTERS, check_widths, describe
from poco.learner.vla.processors import read_processing
from poco.learner.vla.tokens import Tokenizer, read_tokenizer
from poco.observation import check_sources
from poco.specification import Specification, read_specification
from poco.vla import Parity, Vla
from poco.vla_numbers import actions


@dataclass(frozen=True, slots=True)
class Prepared:
    """A policy with its weights, and everything that an artifact says of it."""

    adapter: Adapter
    policy: torch.nn.Module
    sizes: Sizes
    tokenizer: Tokenizer
    specification: Specification
    vla: Vla


def export_vla(options: VlaOptions, progress: Progress) -> Artifact:
    """Export the checkpoint that `options` name and return the artifact read back.

    Raises ArtifactError or UsageError with one sentence, before anything is written, for a checkpoint, specification or folder that
    does not do, and for graphs that do not give what the library gives.
    """
    prepared = prepare(options, progress)
    schedule, precision = prepared.vla.schedule, prepared.vla.precision
    examples = examples_of(prepared.sizes)
    exported = policy_graphs(prepared.adapter, prepared.policy, examples, schedule, precision, options.chunk, progress)
    with progress.stage("open the graphs"):
        policy = GraphPolicy(exported.graphs, exported.payloads, exported.tensors, schedule)
    with progress.stage("compare with the library") as facts:
        parity, golden = check(prepared, policy, exported.graphs, progress)
        facts["remark"] = f"largest difference {parity.error:.1e} of the range of the actions"
    del policy
    vla = msgspec.structs.replace(prepared.vla, parity=parity, golden_tasks=golden.tasks)
    with progress.stage("write") as facts:
        artifact = write_package(options.out, prepared.specification, vla, exported, golden, prepared.tokenizer.payload)
        facts["bytes"] = sum(file.stat().st_size for file in artifact.path.iterdir())
    return artifact


def prepare(options: VlaOptions, progress: Progress) -> Prepared:
    """Read and check everything, build the policy and fill it with the weights of the checkpoint."""
    checkpoint = open_checkpoint(options.checkpoint)
    adapter = ADAPTERS[checkpoint.type]
    specification = read_specification(options.specification)
    check_sources(specification)
    check_out(options.out)
    processing = read_processing(checkpoint)
    check_widths(processing, specification, checkpoint.folder)
    tokenizer = read_tokenizer(options.tokenizer)
    with progress.stage(f"build {checkpoint.type}") as facts:
        policy: Any = adapter.build(checkpoint, options.vlm)
        facts["remark"] = f"{sum(item.numel() for item in policy.parameters()) / 1e6:,.1f} million parameters"
    with progress.stage("read the weights") as facts:
        facts["bytes"] = fill(policy, checkpoint.folder / WEIGHTS)
    policy.requires_grad_(False)
    if options.steps is not None:
        adapter.set_steps(policy, options.steps)
    sizes = adapter.sizes(policy, processing.prompt_length)
    names = camera_names(sizes.cameras, options.cameras)
    vla = describe(adapter, policy, processing, tokenizer, specification, options.vision_positions, names)
    positions = vla.vision_positions
    progress.remark(f"vision positions: {positions.found} found, {positions.asked} asked for")
    vla = msgspec.structs.replace(vla, precision=options.precision, versions=vla.versions | {"onnx": onnx.__version__})
    return Prepared(adapter, policy, sizes, tokenizer, specification, vla)


def check(
    prepared: Prepared, policy: GraphPolicy, graphs: tuple[Graph, ...], progress: Progress
) -> tuple[Parity, Golden]:
    """Compare graphs and library on every case, and how far flipping each input moves the sample; return the golden vectors too."""
    vla, specification = prepared.vla, prepared.specification
    tolerance = TOLERANCES[vla.precision]
    raws = raw_cases(vla, specification, prepared.sizes)
    inputs = [inputs_of(raw, vla, specification, prepared.tokenizer) for raw in raws]
    cases, samples = [], []
    for raw, given in zip(raws, inputs, strict=True):
        expected = library_sample(prepared.adapter, prepared.policy, given)
        samples.append(policy.steps(given))
        cases.append(compare(raw, vla, given, expected, samples[-1]))
        if any(graph.name == "chunk" for graph in graphs):
            cases.append(compare(raw, vla, given, expected, policy.chunk(given)))
    demand(cases, tolerance)
    spread = float(np.max(samples[1]) - np.min(samples[1]))
    sensitivity = {
        name: float(np.max(np.abs(policy.steps(inputs_of(other, vla, specification, prepared.tokenizer)) - samples[1])))
        / spread
        for name, other in flipped(raws[1]).items()
    }
    parity = Parity(cases=tuple(cases), tolerance=tolerance, sensitivity=sensitivity)
    for name, moved in sensitivity.items():
        if moved < LEAST_SENSITIVITY_RATIO * parity.error:
            progress.remark(
                f"warning: changing {name} moves the actions by only {moved:.1e} of their range, the error is {parity.error:.1e}"
            )
    return parity, _golden(raws, inputs, samples, prepared)


def _golden(raws: list[Raw], inputs: list[Inputs], samples: list[Any], prepared: Prepared) -> Golden:
    chunks = [
        actions(prepared.vla, prepared.specification, sample, given.state)
        for sample, given in zip(samples, inputs, strict=True)
    ]
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "observation": np.stack([raw.observation for raw in raws]),
        "images": np.stack([raw.images for raw in raws]),
        "image_mask": np.stack([raw.image_mask for raw in raws]),
        "noise": np.stack([raw.noise for raw in raws]),
        "tokens": np.concatenate([given.arrays["tokens"] for given in inputs]),
        "token_mask": np.concatenate([given.arrays["token_mask"] for given in inputs]),
        "sample": np.stack(samples),
        "chunk": np.stack(chunks),
    }
    return Golden(arrays, tuple(raw.task for raw in raws))
