"""The checkpoint: a folder whose `policy.safetensors` holds the tensors and, in its header, what they belong to.

Header and tensors are one file so that one rename replaces both. Other files of the folder are reports for people. A checkpoint is
of the kind "flow", a policy of one observation vector, "image", where a frozen encoder of images stands before that policy, or
"vla", the expert of a vision-language-action policy whose frozen rest lies in a checkpoint of its library and is named by hash.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from poco.durable import write_durably
from poco.errors import ArtifactError
from poco.learner.encoder import Encoder, with_features
from poco.learner.image_policy import EncoderArchitecture, ImageEncoder
from poco.learner.networks import Architecture
from poco.learner.trained_policy import TrainedPolicy, architecture_of, build, encoder_before, network_of
from poco.learner.vla.network import VlaNetwork
from poco.specification import Specification

FORMAT = "poco-checkpoint"
VERSION = 1
FILE = "policy.safetensors"
MAX_FILE_BYTES = 1 << 33
_KEY = "poco"
_ENCODER = "encoder."

Kind = Literal["flow", "image", "vla"]
Tensors = dict[str, npt.NDArray[np.float32]]


class CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Typed header of a checkpoint; `tensors_sha256` covers names, shapes and contents of the tensors.

    `specification` and `architecture` are those of the flow policy, whose observation begins with what `encoder` makes of images. A
    vision-language-action policy has a `network` instead.
    """

    format: str
    version: int
    kind: Kind = "flow"
    specification: Specification
    specification_hash: str
    architecture: Architecture | None = None
    network: VlaNetwork | None = None
    encoder: EncoderArchitecture | None = None
    metrics: dict[str, float]
    tensors_sha256: str


class _Origin(msgspec.Struct):
    """What of the header is read first, whatever else is in it."""

    format: str
    version: int
    kind: str = "flow"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A policy with the specification it was trained under, the figures measured with it, and what encodes images for it."""

    specification: Specification
    policy: TrainedPolicy
    metrics: dict[str, float]
    encoder: ImageEncoder | None = None

    @property
    def eyes(self) -> Encoder | None:
        """What makes its observations from images, an encoder of ours or the policy's own vision part; none if it is blind."""
        return self.encoder or encoder_before(self.policy)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` into `folder`, replacing an earlier one by a rename; the learner calls it."""
    encoder, network = checkpoint.encoder, network_of(checkpoint.policy)
    tensors: Tensors = {key: value.numpy(force=True) for key, value in checkpoint.policy.state_dict().items()}
    if encoder is not None:
        tensors |= {_ENCODER + key: value.numpy(force=True) for key, value in encoder.weights().items()}
    header = CheckpointHeader(
        format=FORMAT,
        version=VERSION,
        kind="vla" if network is not None else "flow" if encoder is None else "image",
        specification=checkpoint.specification,
        specification_hash=checkpoint.specification.digest(),
        architecture=architecture_of(checkpoint.policy),
        network=network,
        encoder=None if encoder is None else encoder.architecture,
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
            document = (opened.metadata() or {}).get(_KEY, "")
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        origin = msgspec.json.decode(document, type=_Origin)
    except (SafetensorError, msgspec.MsgspecError, OSError) as error:
        raise _unreadable(file, error) from error
    _check_origin(file, origin)
    try:
        header = msgspec.json.decode(document, type=CheckpointHeader)
    except (msgspec.MsgspecError, ArtifactError) as error:
        raise _unreadable(file, error) from error
    _check_header(file, header)
    if header.architecture is not None:
        _check_tensors(file, header, tensors)
    policy = build(header.specification, header.architecture, header.network)
    if header.network is not None:
        _check_tensors(file, header, tensors, policy)
    policy.load_state_dict({key: torch.from_numpy(tensors[key]) for key in policy.state_dict()})
    if header.encoder is None:
        return Checkpoint(header.specification, policy, header.metrics)
    encoder = ImageEncoder(header.encoder).freeze()
    encoder.load_state_dict({key: torch.from_numpy(tensors[_ENCODER + key]) for key in encoder.weights()}, strict=False)
    if with_features(header.specification.told, encoder) != header.specification:
        raise ArtifactError(f"checkpoint {file} holds another encoder than its specification names: train it again")
    return Checkpoint(header.specification, policy, header.metrics, encoder)


def _unreadable(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"checkpoint {file} is not readable ({error}): train it again")


def _check_origin(file: Path, origin: _Origin) -> None:
    if origin.format != FORMAT or origin.version != VERSION:
        raise ArtifactError(
            f"checkpoint {file} is {origin.format} v{origin.version}, this poco reads {FORMAT} v{VERSION}"
        )
    if origin.kind not in get_args(Kind):
        raise ArtifactError(
            f"checkpoint {file} is of the kind {origin.kind!r}, this poco reads {', '.join(get_args(Kind))}: read it with the "
            "poco that wrote it"
        )


def _check_header(file: Path, header: CheckpointHeader) -> None:
    if header.specification.digest() != header.specification_hash:
        raise ArtifactError(f"checkpoint {file} carries a specification that does not match its hash: train it again")
    architecture = header.architecture
    if architecture and architecture != Architecture.of(header.specification, architecture.hidden_sizes):
        raise ArtifactError(
            f"checkpoint {file} has an architecture that does not fit its specification: train it again"
        )
    has = (header.architecture is not None, header.encoder is not None, header.network is not None)
    if has != (header.kind != "vla", header.kind == "image", header.kind == "vla"):
        raise ArtifactError(
            f"checkpoint {file} of the kind {header.kind} has or lacks an architecture, an encoder or a network: train it again"
        )


def _check_tensors(file: Path, header: CheckpointHeader, tensors: Tensors, policy: TrainedPolicy | None = None) -> None:
    expected = _expected(header, policy)
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


def _expected(header: CheckpointHeader, policy: TrainedPolicy | None) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors of `policy`, or of the architecture in `header`; allocates nothing of that size."""
    with torch.device("meta"):
        made = policy or build(header.specification, header.architecture, None)
        shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
        if header.encoder is not None:
            weights = ImageEncoder(header.encoder).weights()
            shapes |= {_ENCODER + key: tuple(value.shape) for key, value in weights.items()}
    return shapes


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(f"{key}:{tensors[key].dtype}{tensors[key].shape};".encode())
        digest.update(np.ascontiguousarray(tensors[key]).tobytes())
    return digest.hexdigest()
