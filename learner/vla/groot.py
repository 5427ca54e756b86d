"""The action head of GR00T N1.7, experimental: features of its backbone and the state become actions.

The backbone, a vision-language model, is not exported; what it gives enters the prefix. The prefix is the frozen part of the head
(normalisation and self-attention over the features), the step its diffusion transformer with the projections of one embodiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poco.errors import ArtifactError, UsageError
from poco.learner.vla.adapter import Case, library_version
from poco.learner.vla.checkpoint import BEFORE, WEIGHTS, Checkpoint, fill, open_checkpoint, read_object
from poco.vla import Schedule

MODEL = "Gr00tN1d7"
PACKING = "groot_n1_7_pack_inputs_v1"
HEAD, BACKBONE = "_groot_model.action_head.", "_groot_model.backbone."
"""Begin the keys of both parts in a checkpoint."""
EARLY = 1e-3
"""Of a bucket of time: far more than the rounding of a time in single precision, so that a whole number stays what it is."""


@dataclass(frozen=True, slots=True)
class Embodiment:
    """The robot that a head is for: its tag in the checkpoint and its number, which selects the head's projections."""

    tag: str
    number: int


class Head(nn.Module):
    """The library's action head under the names of a checkpoint."""

    def __init__(self, head: nn.Module, embodiment: Embodiment) -> None:
        super().__init__()
        self._groot_model = nn.Module()
        self._groot_model.action_head = head
        self.embodiment = embodiment

    @property
    def library(self) -> Any:
        """The library's module."""
        return self._groot_model.action_head


class Prefix(nn.Module):
    """Features [1, S, F] of the backbone to what the steps attend to, the same for as many as are real [1, S]."""

    def __init__(self, policy: Head) -> None:
        super().__init__()
        self._groot_model = policy._groot_model

    def forward(self, features: Tensor, real: Tensor) -> Tensor:
        """Return the context [1, S, F]; the library attends over unpadded features, so padding is masked off here."""
        head: Any = self._groot_model.action_head
        context: Tensor = head.vlln(features)
        for block in getattr(head.vl_self_attention, "transformer_blocks", ()):
            context = block(context, attention_mask=real)
        return context


class Step(nn.Module):
    """The velocity of a chunk on its way from noise."""

    def __init__(self, policy: Head) -> None:
        super().__init__()
        self._groot_model = policy._groot_model
        self._number = policy.embodiment.number

    def forward(
        self, sample: Tensor, time: Tensor, context: Tensor, real: Tensor, image_tokens: Tensor, state: Tensor
    ) -> Tensor:
        """Return the velocity [1, T, W] of `sample` at `time` (0 is noise), for `state` [1, H, W] of H moments."""
        head: Any = self._groot_model.action_head
        embodiment = torch.full((1,), self._number, dtype=torch.int64)
        moment = torch.floor(time * head.num_timestep_buckets + EARLY).to(torch.int64)
        seen = head.state_encoder(state.reshape(1, 1, -1), embodiment)
        moving = head.action_encoder(sample, moment, embodiment)
        if head.config.add_pos_embed:
            moving = moving + head.position_embedding(torch.arange(moving.shape[1]))[None]
        made = head.model(
            hidden_states=torch.cat((seen, moving), dim=1),
            encoder_hidden_states=context,
            timestep=moment,
            image_mask=image_tokens,
            backbone_attention_mask=real,
        )
        velocity: Tensor = head.action_decoder(made, embodiment)[:, -head.action_horizon :]
        return velocity


class GrootHead:
    """What a head consists of."""

    prefix_inputs: tuple[str, ...] = ("features", "real")
    step_inputs: tuple[str, ...] = ("sample", "time", "context", "real", "image_tokens", "state")

    def prefix(self, policy: Any) -> nn.Module:
        """Return the prefix."""
        return Prefix(policy)

    def step(self, policy: Any) -> nn.Module:
        """Return the step."""
        return Step(policy)


def read_head(folder: Path, base: Path, steps: int | None = None) -> tuple[Head, int]:
    """Return the action head of the checkpoint in `folder`, filled with its weights, and their bytes.

    `base` holds the config.json of the GR00T that the checkpoint was made of, since LeRobot's own says nothing of sizes. Raises
    ArtifactError for a checkpoint that is not whole or another model, UsageError for no `base` or a LeRobot without GR00T.
    """
    checkpoint = open_checkpoint(folder, ("groot",))
    if not (base / "config.json").is_file():
        raise UsageError(f"--base {base} holds no config.json: give the folder of the GR00T that was fine-tuned")
    sizes = read_object(base / "config.json")
    if sizes.get("model_type") != MODEL:
        raise ArtifactError(f"{base} is a {sizes.get('model_type')!r}, the library's head is of {MODEL}: give that one")
    embodiment = _embodiment(checkpoint)
    head = _build(checkpoint, sizes, steps)
    if not head.config.use_alternate_vl_dit:
        raise ArtifactError(
            f"{base} sets use_alternate_vl_dit to false, so that its steps attend to padding too: poco cannot export that"
        )
    if not 0 <= embodiment.number < head.config.max_num_embodiments:
        raise ArtifactError(
            f"checkpoint {folder} is for embodiment {embodiment.number}, its head knows 0 to "
            f"{head.config.max_num_embodiments - 1}: save it again"
        )
    policy = Head(head.float().eval(), embodiment)
    size = fill(policy, checkpoint.folder / WEIGHTS, HEAD, BACKBONE)
    return policy.requires_grad_(False), size


def _embodiment(checkpoint: Checkpoint) -> Embodiment:
    """Return the embodiment that the checkpoint's own preprocessor gives to the head."""
    steps = checkpoint.read_json(BEFORE).get("steps")
    configs = [step.get("config", {}) for step in steps or () if step.get("registry_name") == PACKING]
    tag = str(configs[0].get("embodiment_tag")) if len(configs) == 1 else None
    number = configs[0].get("embodiment_mapping", {}).get(tag) if tag else None
    if tag is None or not isinstance(number, int):
        raise ArtifactError(
            f"{checkpoint.folder / BEFORE} has {len(configs)} steps {PACKING} and no number for the embodiment {tag!r}: save the "
            "policy with LeRobot's own processors"
        )
    return Embodiment(tag, number)


def _build(checkpoint: Checkpoint, sizes: Mapping[str, Any], steps: int | None) -> Any:
    asked = checkpoint.config.get("num_inference_timesteps") if steps is None else steps
    try:
        from lerobot.policies.groot.groot_n1_7 import GR00TN17ActionHead, GR00TN17Config

        config = GR00TN17Config(**(dict(sizes) | ({} if asked is None else {"num_inference_timesteps": asked})))
        return GR00TN17ActionHead(config)
    except ImportError as error:
        raise UsageError(
            f"LeRobot {library_version()} cannot build GR00T ({error}): install it with its extra groot"
        ) from error
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"LeRobot {library_version()} cannot build the head that {checkpoint.folder} and its base describe ({reason}): use the "
            "version that saved it"
        ) from error


def schedule(policy: Head) -> Schedule:
    """Return how `policy` goes from noise to actions: from 0 to 1."""
    return Schedule(steps=policy.library.num_inference_timesteps, start=0.0, end=1.0)


def noise_of(policy: Head, seed: int) -> Tensor:
    """Return the noise [1, T, W] that the library draws when torch is seeded with `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.randn(1, policy.library.action_horizon, policy.library.action_dim)


@torch.no_grad()
def library_actions(policy: Head, case: Case, seed: int) -> Tensor:
    """Return the finished sample [1, T, W] of the library's own `get_action` for the unpadded features of `case`."""
    from transformers.feature_extraction_utils import BatchFeature

    length = int(case["real"].sum())
    told = BatchFeature(
        {
            "backbone_features": case["features"][:, :length],
            "backbone_attention_mask": case["real"][:, :length],
            "image_mask": case["image_tokens"][:, :length],
        }
    )
    number = torch.full((1,), policy.embodiment.number)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = policy.library.get_action(told, BatchFeature({"state": case["state"], "embodiment_id": number}))
    sample: Tensor = made["action_pred"]
    return sample
