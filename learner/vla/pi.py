"""pi0 and pi0.5: images and prompt are the prefix; the state is the step's first token (pi0) or words of the prompt (pi0.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from poco.learner.vla.adapter import Case, Sizes, config_of, padded_width, sampled
from poco.learner.vla.checkpoint import Checkpoint
from poco.learner.vla.modules import PrefixModule, StepModule
from poco.vla import PolicyType, Schedule


class Pi:
    """What the adapters of pi0 and pi0.5 share."""

    padding: Literal["left_top", "centred"] = "centred"
    prefix_inputs: tuple[str, ...] = ("pixels", "image_mask", "tokens", "token_mask")

    def sizes(self, policy: Any, tokens: int) -> Sizes:
        """Images have the size that the config says."""
        config = policy.config
        height, width = config.image_resolution
        return Sizes(tuple(config.image_features), height, width, tokens, config.chunk_size, padded_width(config))

    def schedule(self, policy: Any) -> Schedule:
        """From 1 (noise) to 0."""
        return Schedule(steps=policy.config.num_inference_steps, start=1.0, end=0.0)

    def set_steps(self, policy: Any, steps: int) -> None:
        """The config is read at every call."""
        policy.config.num_inference_steps = policy.model.config.num_inference_steps = steps

    def patch_positions(self, policy: Any) -> nn.Embedding | None:
        """SigLIP keeps its ids as a buffer in raster order."""
        return None

    def look(self, policy: Any, image: Tensor) -> None:
        """Embed one image."""
        policy.model.paligemma_with_expert.embed_image(image)

    def prefix(self, policy: Any) -> nn.Module:
        """Return the prefix."""
        return PrefixModule(policy)

    def step(self, policy: Any) -> nn.Module:
        """Return the step."""
        return StepModule(policy)


class Pi0(Pi):
    """The adapter of pi0."""

    type: PolicyType = "pi0"
    step_inputs: tuple[str, ...] = ("sample", "time", "key", "value", "pad", "state")

    def build(self, checkpoint: Checkpoint, vlm: Path | None) -> nn.Module:
        """Build the policy; all its sizes are the library's."""
        from lerobot.policies.pi0.modeling_pi0 import PI0Policy

        policy: nn.Module = PI0Policy(config_of(checkpoint, dtype="float32", gradient_checkpointing=False))
        return policy.float().eval()

    def library(self, policy: Any, case: Case) -> Tensor:
        """Ask the library."""
        return sampled(policy, case, case["state"])


class Pi05(Pi):
    """The adapter of pi0.5."""

    type: PolicyType = "pi05"
    step_inputs: tuple[str, ...] = ("sample", "time", "key", "value", "pad")

    def build(self, checkpoint: Checkpoint, vlm: Path | None) -> nn.Module:
        """Build the policy; all its sizes are the library's."""
        from lerobot.policies.pi05.modeling_pi05 import PI05Policy

        policy: nn.Module = PI05Policy(config_of(checkpoint, dtype="float32", gradient_checkpointing=False))
        return policy.float().eval()

    def library(self, policy: Any, case: Case) -> Tensor:
        """Ask the library."""
        return sampled(policy, case)
