"""The checkpoint: a folder whose `policy.safetensors` holds the tensors and, in its header, what they belong to.

Header and tensors are one file so that one rename replaces both. Other files of the folder are reports for people.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from poco.episodes import write_durably
from poco.errors import ArtifactError
from poco.learner.networks import Architecture, FlowPolicy
from poco.specification import Specification

FORMAT = "poco-checkpoint"
VERSION = 1
FILE = "policy.safetensors"
MAX_FILE_BYTES = 1 << 33
_KEY = "poco"

Tensors = dict[str, npt.NDArray[np.float32]]


class CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Typed header of a checkpoint; `tensors_sha256` covers names, shapes and contents of the tensors."""

    format: str
    version: int
    specification: Specification
    specification_hash: str
    architecture: Architecture
    metrics: dict[str, float]
    tensors_sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A policy with the specification it was trained under and the figures measured with it."""

    specification: Specification
    policy: FlowPolicy
    metrics: dict[str, float]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` into `folder`, replacing an earlier one by a rename; the learner calls it."""
    tensors: Tensors = {key: value.numpy(force=True) for key, value in checkpoint.policy.state_dict().items()}
    header = CheckpointHeader(
        format=FORMAT,
        version=VERSION,
        specification=checkpoint.specification,
        specification_hash=checkpoint.specification.digest(),
        architecture=checkpoint.policy.architecture,
        metrics=checkpoint.metrics,
        tensors_sha256=_digest(tensors),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / FILE, save(dict(tensors), metadata={_KEY: msgspec.json.encode(header).decode()}))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify the checkpoint in `folder`; raises ArtifactError naming the file, what is wrong and the remedy."""
    file = folder / FILE
    if not file.is_file():
        raise ArtifactError(
            f"no checkpoint at {folder}: give a folder that holds {FILE}, as `poco-learner clone` makes it"
        )
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactError(f"checkpoint {file} has {file.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}")
    try:
        with safe_open(file, framework="numpy") as opened:
            header = msgspec.json.decode((opened.metadata() or {}).get(_KEY, ""), type=CheckpointHeader)
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, msgspec.MsgspecError, ArtifactError, OSError) as error:
        raise ArtifactError(f"checkpoint {file} is not readable ({error}): train it again") from error
    _check(file, header, tensors)
    policy = FlowPolicy(header.architecture)
    policy.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})
    return Checkpoint(header.specification, policy.eval(), header.metrics)


def _check(file: Path, header: CheckpointHeader, tensors: Tensors) -> None:
    if header.format != FORMAT or header.version != VERSION:
        raise ArtifactError(
            f"checkpoint {file} is {header.format} v{header.version}, this poco reads {FORMAT} v{VERSION}"
        )
    if header.specification.digest() != header.specification_hash:
        raise ArtifactError(f"checkpoint {file} carries a specification that does not match its hash: train it again")
    if header.architecture != Architecture.of(header.specification, header.architecture.hidden_sizes):
        raise ArtifactError(
            f"checkpoint {file} has an architecture that does not fit its specification: train it again"
        )
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in FlowPolicy(header.architecture).state_dict().items()}
    if set(tensors) != set(expected):
        odd = ", ".join(sorted(set(tensors) ^ set(expected))[:5])
        raise ArtifactError(f"checkpoint {file} does not hold the tensors of its architecture ({odd}): train it again")
    for key, shape in expected.items():
        tensor = tensors[key]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise ArtifactError(
                f"checkpoint {file}: tensor {key} is {tensor.dtype}{list(tensor.shape)}, expected float32{list(shape)}"
            )
        if not np.all(np.isfinite(tensor)):
            raise ArtifactError(f"checkpoint {file}: tensor {key} holds values that are not finite: train it again")
    if _digest(tensors) != header.tensors_sha256:
        raise ArtifactError(f"checkpoint {file} is corrupted (its tensors do not match their sha256): copy it again")


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(f"{key}:{tensors[key].dtype}{tensors[key].shape};".encode())
        digest.update(np.ascontiguousarray(tensors[key]).tobytes())
    return digest.hexdigest()
