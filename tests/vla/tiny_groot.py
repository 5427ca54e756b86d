"""A tiny GR00T N1.7 in LeRobot's own format, made by LeRobot itself: base model, its backbone's config, fine-tuned checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vla import stand_ins
from vla.tiny import CAMERAS, jitter, specification, statistics

FEATURES, WIDTH, HORIZON, IMAGE_TOKEN = 48, 20, 10, 7
TEXT = {
    "hidden_size": FEATURES,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 64,
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"},
}
VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "num_position_embeddings": 64,
    "out_hidden_size": FEATURES,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "deepstack_visual_indexes": [1],
}
HEAD = {
    "select_layer": 2,
    "backbone_embedding_dim": FEATURES,
    "model_dtype": "float32",
    "hidden_size": 24,
    "input_embedding_dim": 32,
    "max_state_dim": WIDTH,
    "max_action_dim": WIDTH,
    "action_horizon": HORIZON,
    "max_num_embodiments": 12,
    "max_seq_len": 32,
    "diffusion_model_cfg": {
        "positional_embeddings": None,
        "num_layers": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "norm_type": "ada_norm",
        "dropout": 0.2,
        "final_dropout": True,
        "output_dim": 24,
        "interleave_self_attention": True,
    },
    "vl_self_attention_cfg": {
        "positional_embeddings": None,
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "dropout": 0.2,
        "final_dropout": True,
    },
}


@dataclass(frozen=True)
class MadeGroot:
    """Where the fine-tuned checkpoint and the base that it was made of lie, and the library's policy of it."""

    checkpoint: Path
    base: Path
    policy: Any


def make_groot(folder: Path, seed: int = 0) -> MadeGroot:
    """Make base and checkpoint below `folder`, with random weights."""
    stand_ins.install()
    torch.manual_seed(seed)
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.groot.groot_n1_7 import GR00TN17, GR00TN17Config
    from lerobot.policies.groot.modeling_groot import GrootConfig, GrootPolicy
    from lerobot.policies.groot.processor_groot import make_groot_pre_post_processors

    vlm, base, checkpoint = folder / "vlm", folder / "base", folder / "checkpoint"
    vlm.mkdir(parents=True)
    qwen = {
        "model_type": "qwen3_vl",
        "image_token_id": IMAGE_TOKEN,
        "vision_start_token_id": 5,
        "vision_end_token_id": 6,
    }
    (vlm / "config.json").write_text(json.dumps({**qwen, "text_config": TEXT, "vision_config": VISION}))
    model = GR00TN17(GR00TN17Config(model_name=str(vlm), **HEAD), load_backbone_weights=False)
    model.save_pretrained(base)
    told = specification()
    inputs = {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, 48, 64)) for name in CAMERAS}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (told.observation_size,))
    config = GrootConfig(
        base_model_path=str(base),
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (told.action_size,))},
        device="cpu",
        chunk_size=HORIZON,
        n_action_steps=HORIZON,
        max_state_dim=WIDTH,
        max_action_dim=WIDTH,
    )
    policy = GrootPolicy(config).eval()
    jitter(policy)
    _enlarge(policy._groot_model.action_head)
    policy.save_pretrained(checkpoint)
    for processor in make_groot_pre_post_processors(config, statistics(told)):
        processor.save_pretrained(checkpoint)
    return MadeGroot(checkpoint, base, policy)


def _enlarge(head: torch.nn.Module) -> None:
    """Draw the matrices of `head` so large that what enters it can be seen in what comes out; the library begins close to zero."""
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
