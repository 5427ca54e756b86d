"""SmolVLA: images, prompt and state are the prefix; the expert attends to it, every other layer also to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from poco.errors import ArtifactError, UsageError
from poco.learner.vla.adapter import Case, Sizes, config_of, padded_width, sampled
from poco.learner.vla.checkpoint import Checkpoint, read_object
from poco.learner.vla.modules import PrefixModule, StepModule
from poco.vla import PolicyType, Schedule


class _ImageTokens:
    """In the place of the VLM's whole processor, of which the policy only asks two ids of its tokenizer."""

    def __init__(self, vlm: Path) -> None:
        file = vlm / "tokenizer.json"
        added = read_object(file).get("added_tokens", []) if file.is_file() else []
        ids = {item["content"]: item["id"] for item in added}
        self.fake_image_token_id = ids.get("<fake_token_around_image>", 0)
        self.global_image_token_id = ids.get("<global-img>", 0)

    @property
    def tokenizer(self) -> _ImageTokens:
        return self

    @classmethod
    def from_pretrained(cls, name: str) -> _ImageTokens:
        return cls(Path(name))


class SmolVla:
    """The adapter of SmolVLA."""

    type: PolicyType = "smolvla"
    padding: Literal["left_top", "centred"] = "left_top"
    prefix_inputs: tuple[str, ...] = ("pixels", "image_mask", "tokens", "token_mask", "state")
    step_inputs: tuple[str, ...] = ("sample", "time", "key", "value", "pad")

    def build(self, checkpoint: Checkpoint, vlm: Path | None) -> nn.Module:
        """Build the policy around the config of the VLM in `vlm`, which no checkpoint holds."""
        if vlm is None or not (vlm / "config.json").is_file():
            raise UsageError(
                "SmolVLA needs the config of its VLM: give --vlm a folder with the config.json of its vlm_model_name"
            )
        from lerobot.policies.smolvla import smolvlm_with_expert
        from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

        config = config_of(checkpoint, vlm_model_name=str(vlm), load_vlm_weights=False)
        if config.adapt_to_pi_aloha or config.add_image_special_tokens:
            raise ArtifactError(
                f"checkpoint {checkpoint.folder} sets adapt_to_pi_aloha or add_image_special_tokens, which poco does not "
                "carry over: train it without"
            )
        smolvlm_with_expert.AutoProcessor = _ImageTokens
        policy: nn.Module = SmolVLAPolicy(config)
        return policy.float().eval()

    def sizes(self, policy: Any, tokens: int) -> Sizes:
        """Images have the size that frames are resized to, (width, height) in the config."""
        config = policy.config
        if config.resize_imgs_with_padding is None:
            raise ArtifactError(
                "the checkpoint resizes no images (resize_imgs_with_padding is null): train it with a size"
            )
        width, height = config.resize_imgs_with_padding
        if width != height:
            raise ArtifactError(
                f"the checkpoint resizes images to {width} x {height} (resize_imgs_with_padding): it takes squares, train it so"
            )
        return Sizes(tuple(config.image_features), height, width, tokens, config.chunk_size, padded_width(config))

    def schedule(self, policy: Any) -> Schedule:
        """From 1 (noise) to 0."""
        return Schedule(steps=policy.config.num_steps, start=1.0, end=0.0)

    def set_steps(self, policy: Any, steps: int) -> None:
        """The config is read at every call."""
        policy.config.num_steps = policy.model.config.num_steps = steps

    def patch_positions(self, policy: Any) -> nn.Embedding | None:
        """Return that of the vision model, which computes ids from the size of an image."""
        embedding: nn.Embedding = (
            policy.model.vlm_with_expert.get_vlm_model().vision_model.embeddings.position_embedding
        )
        return embedding

    def look(self, policy: Any, image: Tensor) -> None:
        """Embed one image."""
        policy.model.vlm_with_expert.embed_image(image)

    def prefix(self, policy: Any) -> nn.Module:
        """Return the prefix."""
        return PrefixModule(policy)

    def step(self, policy: Any) -> nn.Module:
        """Return the step."""
        return StepModule(policy)

    def library(self, policy: Any, case: Case) -> Tensor:
        """Ask the library."""
        return sampled(policy, case, case["state"])
