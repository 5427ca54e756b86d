"""The artifact folder of a vision-language-action policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from poco.artifact import (
    FORMAT,
    MANIFEST,
    VERSION,
    Artifact,
    Manifest,
    TensorFile,
    graph_hash,
    read_artifact,
    sha256,
    write_artifact,
)
from poco.errors import ArtifactError
from poco.export.publish import GOLDEN_FILE, GOLDEN_TOLERANCE, TRAINED_FILE, check_folder
from poco.export.vla.policy_graphs import PolicyGraphs
from poco.learner.vla.tokens import FILE
from poco.specification import Specification
from poco.vla import CHUNK, PREFIX, STEP, Vla

NAMES = {MANIFEST, TRAINED_FILE, GOLDEN_FILE, FILE, *(f"{name}.onnx" for name in (PREFIX, STEP, CHUNK))}
HALF_GOLDEN_TOLERANCE = 2e-2
"""Half precision differs from one computer to the next by this much (action units [-1, 1])."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden vectors by name, first axis the cases, and the task of each.

    observation [N, O], images u8 [N, C, 3, H, W] at the size of the policy, image_mask [N, C], noise [N, T, W], tokens and
    token_mask [N, L], sample [N, T, W] as the model finishes it, chunk [N, chunk_steps, A] in action units.
    """

    arrays: Mapping[str, npt.NDArray[np.generic]]
    tasks: tuple[str, ...]


def check_out(out: Path) -> None:
    """Raise ArtifactError if `out` cannot become the artifact: a file, or a folder with other things."""
    check_folder(out, NAMES)


def write_package(
    out: Path, specification: Specification, vla: Vla, exported: PolicyGraphs, golden: Golden, tokenizer: bytes
) -> Artifact:
    """Write the artifact as generation 1 to the folder `out`, replacing one there, and return it read back."""
    if vla.parity is None:
        raise ArtifactError("a policy that was not compared with its library is not written")
    files = {f"{name}.onnx": payload for name, payload in exported.payloads.items()}
    files[TRAINED_FILE] = save({key: np.ascontiguousarray(tensor) for key, tensor in exported.tensors.items()})
    files[GOLDEN_FILE] = save({key: np.ascontiguousarray(array) for key, array in golden.arrays.items()})
    files[FILE] = tokenizer
    manifest = Manifest(
        format=FORMAT,
        version=VERSION,
        policy="prefix_step",
        robot_model=specification.robot,
        specification=specification,
        specification_hash=specification.digest(),
        graphs=exported.graphs,
        graph_hash=graph_hash(exported.payloads),
        tensors=(
            TensorFile(file=TRAINED_FILE, sha256=sha256(files[TRAINED_FILE]), role="trained"),
            TensorFile(file=GOLDEN_FILE, sha256=sha256(files[GOLDEN_FILE]), role="golden"),
        ),
        noise_shape=(vla.chunk_length, vla.width),
        swappable=True,
        generation=1,
        parent=None,
        expires_unix_s=None,
        golden_tolerance=GOLDEN_TOLERANCE if vla.precision == "fp32" else HALF_GOLDEN_TOLERANCE,
        metrics={"parity_error": vla.parity.error},
        vla=vla,
    )
    check_out(out)
    for name in NAMES - set(files) - {MANIFEST}:
        (out / name).unlink(missing_ok=True)
    write_artifact(out, manifest, files)
    return read_artifact(out)
