"""Proof that the exported graph computes what the trained policy computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from poco.errors import ArtifactError
from poco.export.encoder_graph import IMAGES, STATE
from poco.export.to_onnx import CHUNK, NOISE, OBSERVATION
from poco.learner.image_policy import ImageEncoder
from poco.learner.networks import FlowPolicy

Floats = npt.NDArray[np.float32]

CASES = 64
IMAGE_CASES = 16
TOLERANCE = 1e-5
LEAST_SENSITIVITY_RATIO = 100.0
SEED = 20_240


@dataclass(frozen=True, slots=True)
class Parity:
    """Cases of a parity check: observation [N, O], noise [N, T, A], chunk [N, T, A] of the graph, and its largest error.

    `sensitivity` is the smallest change over the cases, largest element each, when the observation is mirrored about its mean.
    """

    observation: Floats
    noise: Floats
    chunk: Floats
    error: float
    sensitivity: float


def open_graph(graph: bytes) -> onnxruntime.InferenceSession:
    """Return a single-threaded CPU session of `graph`; raises ArtifactError if ONNX Runtime refuses it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"ONNX Runtime cannot open the graph ({reason}): export the model again") from error


def check_parity(policy: FlowPolicy, graph: bytes, tensors: Mapping[str, Floats]) -> Parity:
    """Compare `graph` under ONNX Runtime, fed with `tensors`, with `policy` under torch on 64 random cases.

    Raises ArtifactError if any element differs by more than 1e-5, or if the chunk does not depend on the observation far
    more strongly than that difference. The exporter calls it.
    """
    architecture, random = policy.architecture, np.random.default_rng(SEED)
    spread = random.standard_normal((CASES, architecture.observation_size), dtype=np.float32)
    mean, std = tensors["mean"], tensors["std"]
    noise = random.standard_normal((CASES, architecture.chunk_steps, architecture.action_size), dtype=np.float32)
    observation = mean + std * spread
    session = open_graph(graph)
    chunk = chunks_of(session, observation, noise, tensors)
    with torch.inference_mode():
        expected = policy(torch.from_numpy(observation), torch.from_numpy(noise)).numpy()
    error = float(np.max(np.abs(chunk - expected)))
    if not error <= TOLERANCE:
        raise ArtifactError(
            f"the exported graph differs from the policy by {error:.2e}, the tolerance is {TOLERANCE:.0e}: "
            "report it with the checkpoint, it must not run"
        )
    mirrored = chunks_of(session, mean - std * spread, noise, tensors)
    sensitivity = float(np.min(np.max(np.abs(mirrored - chunk), axis=(1, 2))))
    if sensitivity < LEAST_SENSITIVITY_RATIO * max(error, TOLERANCE):
        raise ArtifactError(
            f"mirroring the observation moves the chunk by only {sensitivity:.2e}, the exported error is {error:.2e}: "
            "the policy ignores what it sees, train it longer"
        )
    return Parity(observation, noise, chunk, error, sensitivity)


@dataclass(frozen=True, slots=True)
class ImageParity:
    """Cases of an encoder's check: images [N, cameras, 3, H, W] (u8), state [N, S], observation [N, O] of the graph, largest error.

    `sensitivity` is the smallest over the cameras of the largest change when every image is replaced by its negative.
    """

    images: npt.NDArray[np.uint8]
    state: Floats
    observation: Floats
    error: float
    sensitivity: float


def check_encoder(encoder: ImageEncoder, graph: bytes, state_size: int) -> ImageParity:
    """Compare `graph` under ONNX Runtime with `encoder` under torch on 16 cases of flat colours with noise in them.

    Raises ArtifactError if any element differs by more than 1e-5, or if the features of any camera do not depend on its image far
    more strongly than that difference. The exporter calls it.
    """
    architecture, random = encoder.architecture, np.random.default_rng(SEED)
    shape = (IMAGE_CASES, *architecture.image_shape)
    colours = random.integers(0, 256, (*shape[:3], 1, 1)) + random.integers(-64, 65, shape)
    images = colours.clip(0, 255).astype(np.uint8)
    state = random.uniform(-1.0, 1.0, (IMAGE_CASES, state_size)).astype(np.float32)
    session = open_graph(graph)
    observation, negative = (_encode(session, one, state) for one in (images, 255 - images))
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(images), torch.from_numpy(state)).numpy()
    error = float(np.max(np.abs(observation - expected)))
    if not error <= TOLERANCE:
        raise ArtifactError(
            f"the exported encoder differs from the one that was trained by {error:.2e}, the tolerance is {TOLERANCE:.0e}: "
            "report it with the checkpoint, it must not run"
        )
    cameras = (IMAGE_CASES, len(architecture.cameras), architecture.features)
    moved = np.abs(negative - observation)[:, : architecture.size].reshape(cameras)
    sensitivity = float(np.min(np.max(moved, axis=(0, 2))))
    if sensitivity < LEAST_SENSITIVITY_RATIO * max(error, TOLERANCE):
        raise ArtifactError(
            f"the negative of an image moves its features by only {sensitivity:.2e}, the exported error is {error:.2e}: the "
            "encoder ignores what it sees, train it longer"
        )
    return ImageParity(images, state, observation, error, sensitivity)


def _encode(session: onnxruntime.InferenceSession, images: npt.NDArray[np.uint8], state: Floats) -> Floats:
    observations = [
        session.run([OBSERVATION], {IMAGES: one[None], STATE: beside[None]})[0]
        for one, beside in zip(images, state, strict=True)
    ]
    return np.concatenate(observations)


def chunks_of(
    session: onnxruntime.InferenceSession, observation: Floats, noise: Floats, tensors: Mapping[str, Floats]
) -> Floats:
    """Return the chunks [N, T, A] that the policy's graph gives for `observation` [N, O] and `noise` [N, T, A]."""
    chunks = [
        session.run([CHUNK], {OBSERVATION: one[None], NOISE: start[None], **tensors})[0]
        for one, start in zip(observation, noise, strict=True)
    ]
    return np.concatenate(chunks)
