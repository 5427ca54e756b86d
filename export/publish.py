"""The artifact folder of one exported graph, written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from poco.artifact import (
    FORMAT,
    MANIFEST,
    VERSION,
    Artifact,
    Graph,
    GraphInput,
    GraphOutput,
    Manifest,
    TensorFile,
    graph_hash,
    read_artifact,
    sha256,
    write_artifact,
)
from poco.errors import ArtifactError
from poco.specification import Specification

Floats = npt.NDArray[np.float32]
Golden = npt.NDArray[np.float32] | npt.NDArray[np.uint8]

GRAPH_NAME = "policy"
GRAPH_FILE, TRAINED_FILE, GOLDEN_FILE = "policy.onnx", "trained.safetensors", "golden.safetensors"
ENCODER_NAME, ENCODER_FILE = "encoder", "encoder.onnx"
GOLDEN_CASES = 8
GOLDEN_TOLERANCE = 1e-4
"""Largest difference the kernels of a robot computer may make to a golden chunk, in action units [-1, 1]."""


@dataclass(frozen=True, slots=True)
class ExportedEncoder:
    """A graph that makes the observation of images and the rest of what is observed."""

    graph: bytes
    inputs: tuple[GraphInput, ...]
    output: GraphOutput


@dataclass(frozen=True, slots=True)
class ExportedPolicy:
    """One chunk policy ready to be published.

    `golden` holds observation [N, O], chunk [N, T, A] and, where the graph takes noise, noise [N, T, A]; with an `encoder` also its
    images [N, cameras, 3, H, W] (u8) and state [N, S]. `trained` are the tensors bound as graph inputs; without any the policy
    cannot be swapped. `network` lets a learner build it again.
    """

    specification: Specification
    graph: bytes
    inputs: tuple[GraphInput, ...]
    output: GraphOutput
    golden: Mapping[str, Golden]
    trained: Mapping[str, Floats] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    network: Mapping[str, int | str | tuple[int, ...]] | None = None
    encoder: ExportedEncoder | None = None


def publish(policy: ExportedPolicy, out: Path) -> Artifact:
    """Write `policy` as generation 1 to the folder `out`, replacing an artifact there, and return it read back.

    Raises ArtifactError if `out` is a file or holds anything that is not part of an artifact.
    """
    files = {GRAPH_FILE: policy.graph, GOLDEN_FILE: save(dict(policy.golden))}
    golden_file = TensorFile(file=GOLDEN_FILE, sha256=sha256(files[GOLDEN_FILE]), role="golden")
    tensor_files: tuple[TensorFile, ...] = (golden_file,)
    if policy.trained:
        files[TRAINED_FILE] = save(dict(policy.trained))
        tensor_files = (TensorFile(file=TRAINED_FILE, sha256=sha256(files[TRAINED_FILE]), role="trained"), golden_file)
    graphs = [_graph(GRAPH_NAME, GRAPH_FILE, policy.graph, policy.inputs, policy.output)]
    payloads = {GRAPH_NAME: policy.graph}
    if (encoder := policy.encoder) is not None:
        graphs.insert(0, _graph(ENCODER_NAME, ENCODER_FILE, encoder.graph, encoder.inputs, encoder.output))
        payloads[ENCODER_NAME] = files[ENCODER_FILE] = encoder.graph
    noise = policy.golden.get("noise")
    manifest = Manifest(
        format=FORMAT,
        version=VERSION,
        policy="chunk",
        robot_model=policy.specification.robot,
        specification=policy.specification,
        specification_hash=policy.specification.digest(),
        graphs=tuple(graphs),
        graph_hash=graph_hash(payloads),
        tensors=tensor_files,
        noise_shape=None if noise is None else noise.shape[1:],
        swappable=bool(policy.trained),
        generation=1,
        parent=None,
        expires_unix_s=None,
        golden_tolerance=GOLDEN_TOLERANCE,
        metrics=dict(policy.metrics),
        network=None if policy.network is None else dict(policy.network),
    )
    check_folder(out, set(files) | {MANIFEST})
    write_artifact(out, manifest, files)
    return read_artifact(out)


def _graph(name: str, file: str, payload: bytes, inputs: tuple[GraphInput, ...], output: GraphOutput) -> Graph:
    return Graph(name=name, file=file, sha256=sha256(payload), inputs=inputs, outputs=(output,))


def check_folder(out: Path, names: set[str]) -> None:
    """Raise ArtifactError if `out` is a file or a folder with anything but `names`."""
    if out.exists() and not out.is_dir():
        raise ArtifactError(f"{out} is a file, an artifact is a folder: choose another --out")
    foreign = sorted({item.name for item in out.iterdir()} - names) if out.is_dir() else []
    if foreign:
        raise ArtifactError(f"folder {out} holds other files ({', '.join(foreign[:5])}): choose an empty --out")
