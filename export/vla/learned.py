"""What a learner made of an expert, on the graphs that its policy was exported with: the next generation of that artifact."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.numpy import save

from poco.artifact import Artifact, Tensors, read_artifact, sha256, write_artifact
from poco.errors import ArtifactError
from poco.export.parity import SEED
from poco.export.vla.cases import Raw, inputs_of
from poco.export.vla.check import TOLERANCES, GraphPolicy
from poco.export.vla.package import check_out
from poco.learner.checkpoint import read_checkpoint
from poco.learner.vla.layout import in_artifact
from poco.learner.vla.policy import VlaPolicy
from poco.learner.vla.sameness import check_same
from poco.learner.vla.tokens import Tokenizer, read_tokenizer
from poco.vla import CHUNK, Vla
from poco.vla_numbers import actions

CASES = 4


def export_learned(checkpoint: Path, base: Path, out: Path) -> Artifact:
    """Write the expert of our `checkpoint` with graphs, prefix and rules of the artifact `base` to the folder `out`; return it.

    Its generation is the one after the base's. Raises ArtifactError or UsageError, before anything is written, for an expert of
    another policy and where the graphs do not give what the learner's policy gives.
    """
    loaded, artifact = read_checkpoint(checkpoint), read_artifact(base)
    vla = artifact.manifest.vla
    if vla is None:
        raise ArtifactError(f"artifact {base} is no vision-language-action policy: export it with `poco-export policy`")
    policy = check_same(loaded.policy, checkpoint, artifact, vla)
    tokenizer = read_tokenizer(Path(policy.network.tokenizer))
    check_out(out)
    expert: Tensors = {name: tensor.numpy(force=True) for name, tensor in policy.state_dict().items()}
    trained = artifact.tensors | _converted(expert, artifact)
    graphs = GraphPolicy(artifact.manifest.graphs, artifact.graphs, trained, vla.schedule)
    error = _difference(policy, graphs, artifact, vla, tokenizer)
    golden = artifact.golden | _golden(graphs, artifact, vla, tokenizer)
    return _write(artifact, trained, golden, {**loaded.metrics, "parity_error": error}, out)


def _converted(expert: Tensors, artifact: Artifact) -> Tensors:
    """Return the tensors of `expert` as the artifact holds them; raises ArtifactError if they are not among its tensors."""
    ours = artifact.tensors
    turned = in_artifact({name: one for name, one in expert.items() if name in ours}, artifact)
    odd = sorted(name for name in expert if name not in turned or turned[name].shape != ours[name].shape)
    if odd:
        raise ArtifactError(
            f"artifact {artifact.path} lacks {len(odd)} of the {len(expert)} tensors that were trained, {odd[0]} for example: "
            "give the artifact that was exported from the same LeRobot checkpoint"
        )
    return turned


def _difference(policy: VlaPolicy, graphs: GraphPolicy, artifact: Artifact, vla: Vla, tokenizer: Tokenizer) -> float:
    """Return how far the graphs' actions are from the learner's, in action units; raises ArtifactError.

    A policy that learned blind is shown nothing, one that sees random images.
    """
    told, draw = artifact.specification, np.random.default_rng(SEED)
    shape = (len(vla.cameras), 3, vla.cameras[0].height, vla.cameras[0].width)
    used = np.array([camera.camera is not None for camera in vla.cameras]) & (policy.eyes is not None)
    errors = []
    for _ in range(CASES):
        observation = draw.uniform(-1, 1, told.observation_size).astype(np.float32)
        noise = draw.standard_normal(policy.noise_shape, np.float32)
        images = draw.integers(0, 256, shape, np.uint8)
        given = inputs_of(Raw(observation, images, used, policy.network.task, noise), vla, told, tokenizer)
        found = actions(vla, told, graphs.steps(given), given.state)
        context = torch.from_numpy(observation)[None]
        if policy.eyes is not None:
            context = policy.eyes(torch.from_numpy(images[used][None]), context)
        with torch.inference_mode():
            expected = policy(context, torch.from_numpy(noise)[None])[0].numpy()
        errors.append(np.max(np.abs(found - expected)))
    error = float(np.max(errors))
    if not error <= 2 * TOLERANCES[vla.precision]:
        raise ArtifactError(
            f"the graphs of {artifact.path} with the trained expert differ from the learner's policy by {error / 2:.1e} of the "
            "range of the actions: steps, prompt or statistics are not those it learned with, export that LeRobot checkpoint again"
        )
    return error / 2


def _golden(graphs: GraphPolicy, artifact: Artifact, vla: Vla, tokenizer: Tokenizer) -> Tensors:
    """Return the samples [N, T, W] and chunks [N, T, A] of the golden cases under the new expert."""
    golden, told = artifact.golden, artifact.specification
    in_one = any(graph.name == CHUNK for graph in artifact.manifest.graphs)
    samples, chunks = [], []
    for case, task in enumerate(vla.golden_tasks):
        raw = Raw(
            observation=golden["observation"][case].astype(np.float32),
            images=golden["images"][case].astype(np.uint8),
            image_mask=golden["image_mask"][case].astype(np.bool_),
            task=task,
            noise=golden["noise"][case].astype(np.float32),
        )
        given = inputs_of(raw, vla, told, tokenizer)
        samples.append(graphs.chunk(given) if in_one else graphs.steps(given))
        chunks.append(actions(vla, told, samples[-1], given.state))
    return {"sample": np.stack(samples), "chunk": np.stack(chunks)}


def _write(artifact: Artifact, trained: Tensors, golden: Tensors, metrics: dict[str, float], out: Path) -> Artifact:
    manifest, payloads = artifact.manifest, {"trained": save(trained), "golden": save(golden)}
    tensors = tuple(
        msgspec.structs.replace(item, sha256=sha256(payloads[item.role])) if item.role in payloads else item
        for item in manifest.tensors
    )
    kept = {graph.file: artifact.graphs[graph.name] for graph in manifest.graphs}
    assert manifest.vla is not None
    kept[manifest.vla.prompt.tokenizer] = artifact.tokenizer
    made = msgspec.structs.replace(
        manifest,
        tensors=tensors,
        generation=manifest.generation + 1,
        parent=manifest.generation,
        expires_unix_s=None,
        metrics=metrics,
    )
    write_artifact(
        out, made, kept | {item.file: payloads[item.role] for item in manifest.tensors if item.role in payloads}
    )
    return read_artifact(out)
