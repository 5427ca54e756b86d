"""Tiny checkpoints in LeRobot's own format, made by LeRobot itself from sizes given here; random weights, seeded.

Usage: PYTHONPATH=tests python -m vla.tiny TYPE FOLDER    makes FOLDER/{checkpoint,vlm,tokenizer} of the type smolvla, pi0 or pi05
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch

from poco.specification import Specification, read_specification
from vla import stand_ins

CONFIGS = Path(__file__).parents[2] / "configs"
SPECIFICATION = CONFIGS / "peg_in_hole_specification.yaml"
SEEN_SPECIFICATION = CONFIGS / "peg_in_hole_seen_specification.yaml"
CAMERAS = ("near", "wrist")
CHUNK = 10
TASK = "put the peg into the hole"
TEXTS = (TASK, "Task: pick up the red cube, State: 0 12 34 56 78 90 255;\nAction: ")
VOCABULARY = 320
WIDTH = 32


@dataclass(frozen=True)
class VlmSizes:
    """Sizes of a SmolVLA: of its vision and text models as in a config.json, layers used, steps of a chunk."""

    vision: dict[str, int]
    text: dict[str, int]
    scale_factor: int
    layers: int
    chunk: int

    @property
    def side(self) -> int:
        """Pixels each way of an image."""
        return self.vision["image_size"]


TINY = VlmSizes(
    vision={
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "image_size": 64,
        "patch_size": 16,
    },
    text={
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": VOCABULARY,
    },
    scale_factor=2,
    layers=2,
    chunk=CHUNK,
)
TRUE = VlmSizes(
    vision={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "image_size": 512,
        "patch_size": 16,
    },
    text={
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "head_dim": 64,
        "vocab_size": 49280,
    },
    scale_factor=4,
    layers=16,
    chunk=50,
)
"""Those of a SmolVLA as it is published, around SmolVLM2 with 500 million parameters."""


@dataclass(frozen=True)
class Made:
    """Where a checkpoint, the VLM's config and the tokenizer lie."""

    checkpoint: Path
    vlm: Path
    tokenizer: Path


def make(
    kind: str,
    folder: Path,
    seed: int = 0,
    sizes: VlmSizes = TINY,
    specification: Path = SPECIFICATION,
    changes: Mapping[str, object] = MappingProxyType({}),
) -> Made:
    """Make a checkpoint of the type `kind` with its processors below `folder`; `changes` replace what a config of pi's has.

    State and action are those of the specification in the file `specification`.
    """
    told = read_specification(specification)
    stand_ins.install()
    torch.manual_seed(seed)
    made = Made(folder / "checkpoint", folder / "vlm", folder / "tokenizer")
    _write_tokenizer(made.tokenizer)
    with tiny_sizes(made):
        policy = _policy(kind, made, sizes, told, changes)
        jitter(policy)
        policy.save_pretrained(made.checkpoint)
        for processor in _processors(kind, policy.config, told):
            processor.save_pretrained(made.checkpoint)
    return made


def specification() -> Specification:
    """What the tiny policies observe and do."""
    return read_specification(SPECIFICATION)


def statistics(told: Specification) -> dict[str, dict[str, torch.Tensor]]:
    """Statistics of data that would fill the bounds of the fields."""
    result = {}
    for key, fields in (("observation.state", told.observation), ("action", told.action)):
        low, high = (np.concatenate([getattr(item, end) for item in fields]) for end in ("low", "high"))
        values = {
            "mean": (low + high) / 2 + (high - low) * 0.03,
            "std": (high - low) / 5,
            "min": low,
            "max": high,
            "q01": low * 0.9,
            "q99": high * 0.95,
            "q10": low * 0.5,
            "q90": high * 0.6,
        }
        result[key] = {name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()}
    return result


def _features(told: Specification) -> tuple[dict[str, Any], dict[str, Any]]:
    from lerobot.configs import FeatureType, PolicyFeature

    inputs = {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, 48, 64)) for name in CAMERAS}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (told.observation_size,))
    return inputs, {"action": PolicyFeature(FeatureType.ACTION, (told.action_size,))}


def _policy(kind: str, made: Made, sizes: VlmSizes, told: Specification, changes: Mapping[str, object]) -> Any:
    inputs, outputs = _features(told)
    common: dict[str, Any] = {
        "input_features": inputs,
        "output_features": outputs,
        "device": "cpu",
        "chunk_size": sizes.chunk,
        "n_action_steps": sizes.chunk,
    }
    if kind == "smolvla":
        from lerobot.policies.smolvla.modeling_smolvla import SmolVLAConfig, SmolVLAPolicy

        _write_vlm(made, sizes)
        return SmolVLAPolicy(
            SmolVLAConfig(
                **common,
                vlm_model_name=str(made.vlm),
                num_vlm_layers=sizes.layers,
                resize_imgs_with_padding=(sizes.side, sizes.side),
                tokenizer_max_length=48,
            )
        )
    from lerobot.policies.pi0.modeling_pi0 import PI0Config, PI0Policy
    from lerobot.policies.pi05.modeling_pi05 import PI05Config, PI05Policy

    config, policy = {"pi0": (PI0Config, PI0Policy), "pi05": (PI05Config, PI05Policy)}[kind]
    return policy(config(**common | {"image_resolution": (28, 28)} | dict(changes)))


def _processors(kind: str, config: Any, told: Specification) -> tuple[Any, Any]:
    from lerobot.policies.pi0.processor_pi0 import make_pi0_pre_post_processors
    from lerobot.policies.pi05.processor_pi05 import make_pi05_pre_post_processors
    from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors

    makers = {
        "smolvla": make_smolvla_pre_post_processors,
        "pi0": make_pi0_pre_post_processors,
        "pi05": make_pi05_pre_post_processors,
    }
    before, after = makers[kind](config, statistics(told))
    return before, after


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<fake_token_around_image>", "<global-img>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)


def _write_vlm(made: Made, sizes: VlmSizes) -> None:
    config = {
        "model_type": "smolvlm",
        "scale_factor": sizes.scale_factor,
        "image_token_id": 2,
        "vision_config": {"model_type": "smolvlm_vision", **sizes.vision},
        "text_config": {"model_type": "llama", "pad_token_id": 0, **sizes.text},
    }
    made.vlm.mkdir(parents=True)
    (made.vlm / "config.json").write_text(json.dumps(config, indent=2))


class _FewTokens:
    """In the place of SmolVLM's processor, whose video part needs torchvision; the policy asks it for two ids only."""

    fake_image_token_id, global_image_token_id = 1, 2

    @property
    def tokenizer(self) -> _FewTokens:
        """Itself."""
        return self

    @classmethod
    def from_pretrained(cls, name: str) -> _FewTokens:
        """Whatever the name."""
        return cls()


@contextmanager
def tiny_sizes(made: Made) -> Iterator[None]:
    """Let LeRobot build its policies small, and find the tokenizer of `made` under any name, inside this context."""
    from lerobot.policies.pi0 import modeling_pi0
    from lerobot.policies.pi05 import modeling_pi05
    from lerobot.policies.smolvla import smolvlm_with_expert
    from lerobot.processor import tokenizer_processor
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made.tokenizer)

    class Local:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            return tokenizer

    with (
        mock.patch.object(smolvlm_with_expert, "AutoProcessor", _FewTokens),
        mock.patch.object(tokenizer_processor, "AutoTokenizer", Local),
        _small(modeling_pi0),
        _small(modeling_pi05),
    ):
        yield


@contextmanager
def _small(module: ModuleType) -> Iterator[None]:
    def sizes(variant: str) -> Any:
        return module.GemmaConfig(width=WIDTH, depth=2, mlp_dim=48, num_heads=8, num_kv_heads=1, head_dim=8)

    def shrunk(genuine: Any) -> Any:
        def make(config: Any) -> Any:
            config = copy.deepcopy(config)
            text = getattr(config, "text_config", config)
            text.vocab_size = VOCABULARY
            if text is not config:
                config._vocab_size = config.image_token_index = config.image_token_id = VOCABULARY
                text.num_attention_heads = 8
                vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
                for name, value in {**vision, "projection_dim": WIDTH, "patch_size": 14}.items():
                    setattr(config.vision_config, name, value)
                config.projection_dim = config.hidden_size = WIDTH
            return genuine(config)

        return make

    names = ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM")
    patches = {name: shrunk(getattr(module, name)) for name in names}
    with mock.patch.multiple(module, get_gemma_config=sizes, **patches):
        yield


def jitter(policy: torch.nn.Module) -> None:
    """Move constant parameters off their initial value, so that a graph that forgets one is noticed."""
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.numel() > 1 and float(parameter.std()) == 0.0:
                parameter.add_(torch.randn_like(parameter) * 0.1)


if __name__ == "__main__":
    print(make(sys.argv[1], Path(sys.argv[2])))
