"""From a checkpoint of ours to a swappable artifact."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch

from poco.artifact import Artifact
from poco.errors import ArtifactError
from poco.export.encoder_graph import IMAGES, STATE, encoder_graph, encoder_inputs, encoder_output
from poco.export.parity import Parity, check_encoder, check_parity, chunks_of, open_graph
from poco.export.publish import (
    GOLDEN_CASES,
    GOLDEN_TOLERANCE,
    ExportedEncoder,
    ExportedPolicy,
    Golden,
    publish,
)
from poco.export.to_onnx import CHUNK, NOISE, OBSERVATION, flow_graph, graph_inputs, graph_output
from poco.learner.checkpoint import Checkpoint, read_checkpoint
from poco.learner.image_policy import ImageEncoder
from poco.learner.trained_policy import flow_policy


def export_policy(checkpoint: Path, out: Path) -> Artifact:
    """Export the checkpoint in folder `checkpoint` to the artifact folder `out`; return the artifact read back.

    A policy that sees has two graphs: that of its encoder, all constants, and that of the policy behind it, whose weights are
    inputs. Raises ArtifactError if the checkpoint is unsound or a graph does not reproduce what was trained.
    """
    loaded = read_checkpoint(checkpoint)
    policy = flow_policy(loaded.policy)
    architecture = policy.architecture
    tensors = {key: value.numpy() for key, value in policy.state_dict().items()}
    graph, inputs = flow_graph(architecture), graph_inputs(architecture)
    parity = check_parity(policy, graph, tensors)
    metrics = {**loaded.metrics, "parity_error": parity.error, "parity_sensitivity": parity.sensitivity}
    golden: dict[str, Golden] = {
        OBSERVATION: parity.observation[:GOLDEN_CASES],
        NOISE: parity.noise[:GOLDEN_CASES],
        CHUNK: parity.chunk[:GOLDEN_CASES],
    }
    encoder = None
    if loaded.encoder is not None:
        encoder, golden, figures = _exported_encoder(loaded, loaded.encoder, graph, parity)
        metrics |= figures
        inputs = tuple(
            msgspec.structs.replace(item, source=f"graph:{OBSERVATION}") if item.source == OBSERVATION else item
            for item in inputs
        )
    return publish(
        ExportedPolicy(
            specification=loaded.specification,
            graph=graph,
            inputs=inputs,
            output=graph_output(architecture),
            golden=golden,
            trained=tensors,
            network=msgspec.structs.asdict(architecture),
            metrics=metrics,
            encoder=encoder,
        ),
        out,
    )


def _exported_encoder(
    loaded: Checkpoint, encoder: ImageEncoder, graph: bytes, parity: Parity
) -> tuple[ExportedEncoder, dict[str, Golden], dict[str, float]]:
    """Return the encoder's graph, golden vectors from images to chunks, and figures; raises ArtifactError if they miss torch's."""
    state_size = loaded.specification.observation_size - encoder.architecture.size
    exported = ExportedEncoder(
        encoder_graph(encoder, state_size), encoder_inputs(encoder, state_size), encoder_output(encoder, state_size)
    )
    seen = check_encoder(encoder, exported.graph, state_size)
    tensors = {key: value.numpy() for key, value in loaded.policy.state_dict().items()}
    first = slice(GOLDEN_CASES)
    images, state, observation, noise = (
        seen.images[first],
        seen.state[first],
        seen.observation[first],
        parity.noise[first],
    )
    chunk = chunks_of(open_graph(graph), observation, noise, tensors)
    with torch.inference_mode():
        expected = loaded.policy(encoder(torch.from_numpy(images), torch.from_numpy(state)), torch.from_numpy(noise))
    error = float(np.max(np.abs(chunk - expected.numpy())))
    if not error <= GOLDEN_TOLERANCE:
        raise ArtifactError(
            f"encoder and policy together differ from what was trained by {error:.2e}, the tolerance is {GOLDEN_TOLERANCE:.0e}: "
            "report it with the checkpoint, it must not run"
        )
    golden: dict[str, Golden] = {IMAGES: images, STATE: state, OBSERVATION: observation, NOISE: noise, CHUNK: chunk}
    figures = {"encoder_parity_error": seen.error, "encoder_sensitivity": seen.sensitivity, "image_parity_error": error}
    return exported, golden, figures
