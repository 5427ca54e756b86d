"""LeRobot's processors read as data: which normalisation with which statistics, how long a prompt, which actions are relative.

Only the steps named here are understood; a checkpoint with any other is refused, because leaving one out changes what the
policy sees or does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from poco.errors import ArtifactError
from poco.learner.vla.checkpoint import AFTER, BEFORE, Checkpoint
from poco.vla import STATISTICS, Normalisation

STATE, ACTION = "observation.state", "action"
MODES: dict[str, Literal["identity", "mean_std", "min_max", "quantiles", "quantile10"]] = {
    "IDENTITY": "identity",
    "MEAN_STD": "mean_std",
    "MIN_MAX": "min_max",
    "QUANTILES": "quantiles",
    "QUANTILE10": "quantile10",
}
HARMLESS = frozenset({"to_batch_processor", "device_processor", "rename_observations_processor"})
NEW_LINE = frozenset({"smolvla_new_line_processor", "pi0_new_line_processor", "new_line_task_processor"})
STATE_IN_PROMPT = "pi05_prepare_state_tokenizer_processor_step"
NORMALISER, TOKENIZER = "normalizer_processor", "tokenizer_processor"
KNOWN = (
    HARMLESS
    | NEW_LINE
    | {
        TOKENIZER,
        NORMALISER,
        "unnormalizer_processor",
        "relative_actions_processor",
        "absolute_actions_processor",
        STATE_IN_PROMPT,
    }
)

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Processing:
    """What a checkpoint's processors do: state and action normalisation, prompt template and length, relative actions."""

    state: Normalisation
    action: Normalisation
    template: Literal["task", "task_and_state"]
    prompt_length: int
    relative: tuple[bool, ...]


def read_processing(checkpoint: Checkpoint) -> Processing:
    """Return what the processors of `checkpoint` do; raises ArtifactError for unknown steps and missing statistics."""
    before, after = (_steps(checkpoint, name) for name in (BEFORE, AFTER))
    names = [step["registry_name"] for step in before]
    tokenizer = _only(before, TOKENIZER, checkpoint)
    if tokenizer["config"].get("padding_side", "right") != "right":
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} pads prompts on the left, poco only on the right: train it so"
        )
    if "max_length" not in tokenizer["config"]:
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} says no max_length of prompts in {BEFORE}: save it with LeRobot's own processors"
        )
    _check_order(names, checkpoint)
    normaliser = _only(before, NORMALISER, checkpoint)
    _check_normalised(checkpoint, normaliser)
    unnormaliser = _only(after, "unnormalizer_processor", checkpoint)
    action = _normalisation(checkpoint, unnormaliser, ACTION)
    return Processing(
        state=_normalisation(checkpoint, normaliser, STATE),
        action=action,
        template="task_and_state" if STATE_IN_PROMPT in names else "task",
        prompt_length=int(tokenizer["config"]["max_length"]),
        relative=_relative(before, after, action.size, checkpoint),
    )


def _steps(checkpoint: Checkpoint, name: str) -> list[Step]:
    steps = checkpoint.read_json(name).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ArtifactError(f"{checkpoint.folder / name} lists no steps: save the checkpoint again")
    for step in steps:
        step.setdefault("config", {})
        step.setdefault("registry_name", step.get("class"))
        if step["registry_name"] not in KNOWN:
            raise ArtifactError(
                f"{checkpoint.folder / name} has the step {step['registry_name']!r}, which poco does not know: save the policy "
                "with LeRobot's own processors"
            )
    return steps


def _only(steps: Sequence[Step], name: str, checkpoint: Checkpoint) -> Step:
    found = [step for step in steps if step["registry_name"] == name]
    if len(found) != 1:
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} has {len(found)} steps {name}, poco needs one: save it again"
        )
    return found[0]


def _check_order(names: Sequence[str], checkpoint: Checkpoint) -> None:
    """Raise ArtifactError unless prompts are made as poco makes them: of the normalised state, or ending in a new line."""
    state_in_prompt = STATE_IN_PROMPT in names
    wanted = [[NORMALISER], [STATE_IN_PROMPT], [TOKENIZER]] if state_in_prompt else [list(NEW_LINE), [TOKENIZER]]
    places = [next((place for place, name in enumerate(names) if name in group), -1) for group in wanted]
    if -1 in places or places != sorted(places):
        order = ", ".join(group[0] for group in wanted) if state_in_prompt else f"a new line, {TOKENIZER}"
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} has the steps {', '.join(names)}, poco needs among them, in this order, {order}: save "
            "the policy with LeRobot's own processors"
        )


def _check_normalised(checkpoint: Checkpoint, step: Step) -> None:
    """Raise ArtifactError if `step` leaves the state alone, or does to images what poco does not."""
    keys = step["config"].get("normalize_observation_keys")
    if keys is not None and STATE not in keys:
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} normalises the observations {', '.join(keys) or 'none'} only, not {STATE}: train it so"
        )
    named = step["config"].get("norm_map", {}).get("VISUAL", "IDENTITY")
    images = {key for key, feature in step["config"].get("features", {}).items() if feature.get("type") == "VISUAL"}
    shown = sorted(images & {key.rpartition(".")[0] for key in _statistics(checkpoint, step)})
    if named != "IDENTITY" and shown:
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} normalises {shown[0]} by {named}, poco leaves images alone: train it with IDENTITY"
        )


def _statistics(checkpoint: Checkpoint, step: Step) -> Mapping[str, npt.NDArray[np.generic]]:
    file = step.get("state_file")
    path = checkpoint.folder / str(file)
    try:
        return load_file(path) if file and path.is_file() else {}
    except (SafetensorError, KeyError) as error:  # the latter for a type that numpy lacks
        raise ArtifactError(f"statistics {path} are not readable ({error}): save the checkpoint again") from error


def _normalisation(checkpoint: Checkpoint, step: Step, key: str) -> Normalisation:
    """Return how `key` is normalised by `step`; a mode without its statistics is refused, the library would leave it out."""
    feature = step["config"].get("features", {}).get(key)
    if not isinstance(feature, dict) or len(feature.get("shape", ())) != 1:
        raise ArtifactError(f"checkpoint {checkpoint.folder} normalises no vector {key}: train it with one")
    size, kind = int(feature["shape"][0]), str(feature["type"])
    named = step["config"].get("norm_map", {}).get(kind, "IDENTITY")
    if named not in MODES:
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} normalises {key} by {named}, poco knows {', '.join(MODES)}"
        )
    mode = MODES[named]
    if not STATISTICS[mode]:
        return Normalisation(mode=mode, size=size)
    tensors = _statistics(checkpoint, step)
    missing = [name for name in STATISTICS[mode] if f"{key}.{name}" not in tensors]
    if missing:
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} normalises {key} by {named} but has no {' and no '.join(missing)} of it: save the "
            "policy with the statistics of its data"
        )
    eps = float(step["config"].get("eps", 1e-8))
    if eps != 1e-8:
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} normalises with eps {eps:g}, poco with 1e-8: save it again"
        )
    return Normalisation(
        mode=mode,
        size=size,
        statistics={name: tuple(map(float, tensors[f"{key}.{name}"].reshape(-1))) for name in STATISTICS[mode]},
    )


def _relative(before: Sequence[Step], after: Sequence[Step], size: int, checkpoint: Checkpoint) -> tuple[bool, ...]:
    """Return which elements of an action are offsets from the state, empty if none is."""
    configs = [step["config"] for step in before if step["registry_name"] == "relative_actions_processor"]
    undone = [step["config"] for step in after if step["registry_name"] == "absolute_actions_processor"]
    enabled = [any(config.get("enabled") for config in group) for group in (configs, undone)]
    if enabled[0] != enabled[1]:
        raise ArtifactError(
            f"checkpoint {checkpoint.folder} makes actions relative on one side only: save it with both processors"
        )
    if not enabled[0]:
        return ()
    excluded = [str(name).lower() for name in configs[0].get("exclude_joints") or ()]
    names = configs[0].get("action_names") or []
    kept = [any(word in str(name).lower() for word in excluded) for name in names[:size]]
    return tuple(not fixed for fixed in kept) + (True,) * (size - len(kept))
