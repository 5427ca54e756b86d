"""A LeRobot checkpoint read strictly by us: config, weights key by key, tokenizer files. Nothing is left to the library's goodwill.

The library's own loaders return random weights where keys or the whole file are missing; here that is a refusal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open

from poco.errors import ArtifactError
from poco.vla import PolicyType

CONFIG, WEIGHTS, ADAPTER = "config.json", "model.safetensors", "adapter_model.safetensors"
BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"
TYPES = tuple(kind for kind in get_args(PolicyType) if kind != "groot")
"""Types of which everything is exported; of GR00T only the action head is (`poco.learner.vla.groot`)."""
OLD_KEYS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
"""Begin the keys of statistics that checkpoints held among their weights before there were processors."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LISTED = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with a config of a known type and, checked for their names only, the files beside it."""

    folder: Path
    type: PolicyType
    config: Mapping[str, Any]

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the JSON object in the file `name`; raises ArtifactError."""
        return read_object(self.folder / name)


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`; raises ArtifactError if there is none."""
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} is missing or not JSON ({error}): save the checkpoint again") from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{file} holds no JSON object: save the checkpoint again")
    return document


def open_checkpoint(folder: Path, types: tuple[PolicyType, ...] = TYPES) -> Checkpoint:
    """Return the checkpoint in `folder`, of one of `types`.

    Raises ArtifactError for no checkpoint, another type, an old format or no weights.
    """
    if not (folder / CONFIG).is_file():
        raise ArtifactError(
            f"no checkpoint at {folder}: give a folder with {CONFIG}, as LeRobot's save_pretrained writes it"
        )
    config = read_object(folder / CONFIG)
    kind: PolicyType | None = config.get("type")
    if kind is None or kind not in types:
        other = "; of GR00T there is poco-export groot-head" if kind == "groot" else ""
        raise ArtifactError(f"checkpoint {folder} is of the type {kind!r}: this exports {', '.join(types)}{other}")
    weights = folder / WEIGHTS
    if not weights.is_file():
        adapter = (folder / ADAPTER).is_file()
        remedy = "merge the adapter into the policy and save that" if adapter else "copy the whole folder again"
        raise ArtifactError(f"checkpoint {folder} has no weights ({WEIGHTS} is missing): {remedy}")
    old = [key for key in _keys(weights) if key.startswith(OLD_KEYS)]
    if old or not (folder / BEFORE).is_file() or not (folder / AFTER).is_file():
        what = f"keeps statistics among its weights ({old[0]})" if old else f"has no {BEFORE} or no {AFTER}"
        raise ArtifactError(
            f"checkpoint {folder} {what}, the format before LeRobot's processors: convert it with "
            "`python -m lerobot.processor.migrate_policy_normalization --pretrained-path CHECKPOINT`"
        )
    return Checkpoint(folder, kind, config)


def _keys(weights: Path) -> list[str]:
    with _opened(weights) as file:
        return list(file.keys())


@contextmanager
def _opened(weights: Path) -> Any:
    try:
        with safe_open(weights, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ArtifactError(f"weights {weights} are not readable ({error}): copy the checkpoint again") from error


@torch.no_grad()
def fill(policy: torch.nn.Module, weights: Path, begins: str = "model.", beside: str | None = None) -> int:
    """Copy every tensor of `weights` into `policy` and return their bytes in the file.

    The keys must be the policy's, which begin with `begins`, of tied tensors one at least; those that begin with `beside` belong to
    a part that is not asked for. Raises ArtifactError for a missing or extra key, another shape, a
    type that is no float and values that are not finite; each names the key.
    """
    wanted = policy.state_dict()
    count = 0
    with _opened(weights) as file:
        keys = {key for key in file.keys() if beside is None or not key.startswith(beside)}  # noqa: SIM118
        if not any(key.startswith(begins) for key in keys):
            raise ArtifactError(
                f"weights {weights} are not of a LeRobot policy (no key begins with {begins}): save it again"
            )
        tied = _tied(wanted)
        missing = [key for key in wanted if key not in keys and not tied[key] & keys]
        if missing:
            raise ArtifactError(f"weights {weights} lack {_listed(missing)}: save the whole policy again")
        if extra := sorted(keys - set(wanted)):
            raise ArtifactError(
                f"weights {weights} hold {_listed(extra)}, which a policy of this config does not have: save it with its own config"
            )
        for key in sorted(keys):
            tensor = file.get_tensor(key)
            if tensor.shape != wanted[key].shape or tensor.dtype not in DTYPES:
                raise ArtifactError(
                    f"tensor {key} in {weights} is {tensor.dtype} {list(tensor.shape)}, the policy's is a float "
                    f"{list(wanted[key].shape)}: save it with its own config"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise ArtifactError(
                    f"tensor {key} in {weights} holds values that are not finite: the policy was never sound"
                )
            count += tensor.numel() * tensor.element_size()
            wanted[key].copy_(tensor)
    return count


def _tied(state: Mapping[str, torch.Tensor]) -> dict[str, set[str]]:
    """Return for every key those that share its memory."""
    groups: dict[int, set[str]] = {}
    for key, tensor in state.items():
        groups.setdefault(tensor.data_ptr(), set()).add(key)
    return {key: groups[tensor.data_ptr()] for key, tensor in state.items()}


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
