"""What differs between types of policies: how one is built, what its two graphs compute and what its library gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from poco.errors import ArtifactError
from poco.learner.vla.checkpoint import Checkpoint
from poco.vla import PolicyType, Schedule

Case = Mapping[str, torch.Tensor]
"""Tensors by their source: pixels [C, 3, H, W], image_mask [C], tokens [1, L], token_mask [1, L], state [1, W], noise [1, T, W]."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a policy: images and their height and width (pixels), tokens of a prompt, steps of a chunk, padded width."""

    cameras: tuple[str, ...]
    height: int
    width: int
    tokens: int
    chunk: int
    padded: int


def padded_width(config: Any) -> int:
    """Return the elements to which state and actions are filled up; raises ArtifactError if they are not the same."""
    state, action = int(config.max_state_dim), int(config.max_action_dim)
    if state != action:
        raise ArtifactError(
            f"the checkpoint fills states up to {state} elements and actions to {action} (max_state_dim, max_action_dim): poco "
            "takes one width for both, train it so"
        )
    return action


class Parts(Protocol):
    """The two modules that a policy consists of; `prefix_inputs` and `step_inputs` are their arguments, by their sources.

    What the step takes and no source gives is what the prefix gives, in that order.
    """

    prefix_inputs: tuple[str, ...]
    step_inputs: tuple[str, ...]

    def prefix(self, policy: Any) -> torch.nn.Module:
        """Return the module of the prefix graph: `prefix_inputs` to what the step takes of it, such as key, value and pad."""

    def step(self, policy: Any) -> torch.nn.Module:
        """Return the module of the step graph: `step_inputs`, sample and time among them, to a velocity."""


class Adapter(Parts, Protocol):
    """One type of policy."""

    type: PolicyType
    padding: Literal["left_top", "centred"]

    def build(self, checkpoint: Checkpoint, vlm: Path | None) -> torch.nn.Module:
        """Return the policy as the library builds it, its weights still random, in float32 on the CPU."""

    def sizes(self, policy: Any, tokens: int) -> Sizes:
        """Return the sizes of `policy` whose prompts have `tokens` tokens."""

    def schedule(self, policy: Any) -> Schedule:
        """Return how `policy` goes from noise to actions."""

    def set_steps(self, policy: Any, steps: int) -> None:
        """Let the library take `steps` steps from noise to actions."""

    def patch_positions(self, policy: Any) -> torch.nn.Embedding | None:
        """Return the embedding of the positions of image patches where their ids are computed, None where they are fixed."""

    def look(self, policy: Any, image: torch.Tensor) -> None:
        """Let the vision part of `policy` look at `image` [1, 3, H, W]."""

    def library(self, policy: Any, case: Case) -> torch.Tensor:
        """Return the finished sample [1, T, W] that the library's own `sample_actions` gives for the unpadded prompt."""


def config_of(checkpoint: Checkpoint, **changes: object) -> Any:
    """Return the library's config of `checkpoint`, for the CPU and neither compiled nor guided; raises ArtifactError."""
    from lerobot.configs.policies import PreTrainedConfig

    try:
        config = PreTrainedConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # draccus and json raise what they like
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"LeRobot {library_version()} cannot read the config of {checkpoint.folder} ({reason}): use the version that saved it"
        ) from error
    for name, value in {"device": "cpu", "compile_model": False, "rtc_config": None, **changes}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    return config


def library_version() -> str:
    """Return the version of LeRobot."""
    from importlib.metadata import version

    return version("lerobot")


def sampled(policy: Any, case: Case, *state: torch.Tensor) -> torch.Tensor:
    """Return what the library's `sample_actions` makes of `case` with its prompt unpadded, and of a `state` where it takes one."""
    length = int(case["token_mask"].sum())
    images, there = (list(case[name].unsqueeze(1).unbind()) for name in ("pixels", "image_mask"))
    tokens, mask = (case[name][:, :length] for name in ("tokens", "token_mask"))
    sample: torch.Tensor = policy.model.sample_actions(images, there, tokens, mask, *state, noise=case["noise"].clone())
    return sample
