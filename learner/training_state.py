"""The state of a training run: one safetensors file with everything a resumed run needs, the last three kept.

Tensors are those of actor, critic, target critic, best actor, optimizer and random generator; the header holds what the run is,
its counters and the watermark of the replay. One rename replaces all of it, so a killed process always leaves a whole one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from poco.durable import write_durably
from poco.errors import ArtifactError, SettingsError
from poco.learner.image_policy import EncoderArchitecture
from poco.learner.networks import Architecture
from poco.learner.recipe import TrainingSettings, endless
from poco.learner.success_guard import GuardState
from poco.learner.vla.network import VlaNetwork
from poco.specification import Specification

FORMAT = "poco-training"
VERSION = 3
READ_VERSIONS = (2, VERSION)
"""Version 2 knew no inbox."""

SUFFIX = ".safetensors"
KEPT = 3
WEIGHT_MAX = 1e6
"""A tensor that holds a value beyond this, or none at all, is refused; but for the optimizer's counts of its steps."""

_KEY = "poco"
_GENERATOR = "generator"
_OPTIMIZER = "optimizer."
_STEPS = ".step"

Tensors = dict[str, Tensor]


class Progress(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Counters of a run: episodes begun and finished, control steps and updates so far, updates refused, step until which the
    actor is frozen, step up to which it was evaluated for its control steps.

    bf16_sampling is what was decided at its start, so that a resumed run draws as the unbroken one does.
    """

    begun: int = 0
    episodes: int = 0
    steps: int = 0
    updates: int = 0
    refused: int = 0
    frozen_until_step: int = 0
    evaluated_step: int = 0
    bf16_sampling: bool = False
    guard: GuardState = msgspec.field(default_factory=GuardState)

    @property
    def frozen(self) -> bool:
        """Whether the actor stays as it is, after a return of the guard."""
        return self.guard.awaiting > 0 or self.steps < self.frozen_until_step

    def reached(self, settings: TrainingSettings, uncounted: int = 0) -> bool:
        """Whether a run of `settings` has come to its end, with `uncounted` episodes more."""
        return self.episodes + uncounted >= settings.episodes or 0 < settings.steps <= self.steps


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run is: recipe, seed, specification, the architecture of its actor and of what encodes images for it, if it sees.

    An actor that is the expert of a vision-language-action policy has a `network` instead of an architecture. It is enough to build
    its networks again.
    """

    settings: TrainingSettings
    seed: int
    specification: Specification
    architecture: Architecture | None = None
    network: VlaNetwork | None = None
    encoder: EncoderArchitecture | None = None

    def digest(self) -> str:
        """Return the hash of what a resumed run must share; only its end may be moved."""
        shared = msgspec.structs.replace(self, settings=endless(self.settings))
        return hashlib.sha256(msgspec.json.encode(shared)).hexdigest()


class StateHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Typed header of a state."""

    format: str
    version: int
    identity: Identity
    progress: Progress
    replay_watermark: int
    inbox_position: int = 0


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A point of a run between two episodes; `inbox_position` is up to where what robots sent is in it."""

    identity: Identity
    progress: Progress
    replay_watermark: int
    tensors: Tensors
    inbox_position: int = 0


def write_state(folder: Path, state: TrainingState) -> None:
    """Write `state` beside the earlier ones in `folder` and remove all but the newest three; the learner calls it.

    Raises ArtifactError, and leaves the earlier ones alone, if a value is not finite or has exploded or the disk is full.
    """
    for key, tensor in state.tensors.items():
        counts = key.startswith(_OPTIMIZER) and key.endswith(_STEPS)
        if counts or not tensor.is_floating_point() or not tensor.numel():
            continue
        if not float(tensor.abs().max()) <= WEIGHT_MAX:
            raise ArtifactError(
                f"tensor {key} has a value of magnitude {float(tensor.abs().max())}, the limit is {WEIGHT_MAX:g}: "
                "the checkpoint is not written; lower the learning rate and resume from the one before"
            )
    header = StateHeader(
        format=FORMAT,
        version=VERSION,
        identity=state.identity,
        progress=state.progress,
        replay_watermark=state.replay_watermark,
        inbox_position=state.inbox_position,
    )
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.tensors.items()}
    payload = save(tensors, metadata={_KEY: msgspec.json.encode(header).decode()})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / f"{state.progress.episodes:08d}{SUFFIX}", payload)
    except OSError as error:
        raise ArtifactError(
            f"the checkpoint cannot be written to {folder} ({error.strerror}): free space and resume"
        ) from error
    for old in _files(folder)[:-KEPT]:
        old.unlink()


def read_state(folder: Path) -> TrainingState:
    """Read the newest state in `folder`; raises ArtifactError naming the file, what is wrong and the remedy."""
    file = _newest(folder)
    header = _read_header(file)
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(file, error) from error
    return TrainingState(header.identity, header.progress, header.replay_watermark, tensors, header.inbox_position)


def read_header(folder: Path) -> StateHeader:
    """Read what the newest state in `folder` belongs to and how far it got, without its tensors; raises ArtifactError."""
    return _read_header(_newest(folder))


def oldest_position(folder: Path) -> int:
    """Return up to where the inbox is in every state that is kept in `folder`, so that each of them can be resumed from."""
    return min(_read_header(file).inbox_position for file in _files(folder))


def has_state(folder: Path) -> bool:
    """Whether there is a state in `folder` to resume from."""
    return bool(_files(folder))


def _newest(folder: Path) -> Path:
    files = _files(folder)
    if not files:
        raise ArtifactError(f"no checkpoint of a training run in {folder}: start without --resume")
    return files[-1]


def _read_header(file: Path) -> StateHeader:
    try:
        with safe_open(file, framework="pt") as opened:
            header = msgspec.json.decode((opened.metadata() or {}).get(_KEY, ""), type=StateHeader)
    except (SafetensorError, msgspec.MsgspecError, ArtifactError, SettingsError, OSError) as error:
        raise _unreadable(file, error) from error
    if header.format != FORMAT or header.version not in READ_VERSIONS:
        raise ArtifactError(
            f"checkpoint {file} is {header.format} v{header.version}, this poco reads {FORMAT} v{VERSION}"
        )
    return header


def _unreadable(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"checkpoint {file} is not readable ({error}): remove it to resume from the one before")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return the moments and step counts of `optimizer` by parameter number."""
    state = optimizer.state_dict()["state"]
    return {f"{_OPTIMIZER}{number}.{key}": value for number, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put moments and step counts back; learning rates stay those of the settings."""
    state: dict[int, Tensors] = {}
    for key, value in under(_OPTIMIZER, tensors).items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def generator_tensors(generator: torch.Generator) -> Tensors:
    """Return the state of `generator` as bytes."""
    return {_GENERATOR: generator.get_state()}


def restore_generator(generator: torch.Generator, tensors: Tensors) -> None:
    """Put the state of `generator` back; raises ArtifactError if it is one of another kind of device."""
    kept, ours = tensors[_GENERATOR], generator.get_state()
    if kept.shape != ours.shape:
        raise ArtifactError(
            f"the run drew its random numbers elsewhere than on {generator.device} ({len(kept)} bytes of state instead of "
            f"{len(ours)}): resume it with the --device it was begun with"
        )
    generator.set_state(kept)


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """Return `tensors` with `prefix` before every key."""
    return {prefix + key: value for key, value in tensors.items()}


def under(prefix: str, tensors: Tensors) -> Tensors:
    """Return the tensors whose keys begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))
