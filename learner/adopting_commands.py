"""The command of `poco-learner` that makes a policy of another library one that it can clone, train and evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal


def adopt(
    checkpoint: Path,
    specification: Path,
    task: str,
    tokenizer: Path,
    out: Path,
    vlm: Path | None = None,
    cameras: tuple[str, ...] = (),
    vision_positions: Literal["auto", "raster", "shifted"] = "auto",
) -> None:
    """Take on a vision-language-action policy of LeRobot (SmolVLA, pi0, pi0.5): what it was trained to do is where learning begins.

    Leaves a checkpoint of ours that holds the action expert and names everything else, which stays frozen, by its hash; clone and
    train go on from it (--start), evaluate measures it. It needs the Python environment in which LeRobot is installed.

    With --cameras the policy sees: its images, squares, come with the data and from the environment, and lie in the replay, where
    marks in every observation name them. Without, its cameras are masked off while it learns and while it is evaluated.

    Args:
        checkpoint: Folder of the checkpoint as LeRobot's save_pretrained writes it; it must stay where it is.
        specification: YAML file that names every element of the policy's state and action, as for `poco-export vla`.
        task: What the policy is told to do.
        tokenizer: Folder of the tokenizer that it was trained with (tokenizer.json), which no checkpoint holds.
        out: Folder of our checkpoint.
        vlm: Folder with the config.json of the VLM (SmolVLA).
        cameras: Which camera gives which image, IMAGE=CAMERA with the last word of the image's key, as for `poco-export vla`; an
            image that is not named is that of the camera of its own name.
        vision_positions: Position ids of image patches, as for `poco-export vla`.
    """
    import torch

    from poco.learner.checkpoint import Checkpoint, write_checkpoint
    from poco.learner.vla.network import VlaNetwork
    from poco.learner.vla.opening import open_vla
    from poco.specification import read_specification

    torch.set_num_threads(1)
    told = read_specification(specification)
    network = VlaNetwork(
        checkpoint=str(checkpoint.resolve()),
        task=task,
        tokenizer=str(tokenizer.resolve()),
        vlm=None if vlm is None else str(vlm.resolve()),
        cameras=cameras,
        vision_positions=vision_positions,
    )
    policy = open_vla(network, told)
    write_checkpoint(out, Checkpoint(policy.specification, policy, {}))
    learning = sum(parameter.numel() for parameter in policy.parameters())
    print(json.dumps({"out": str(out), "learning_parameters": learning, "frozen_sha256": policy.network.frozen_sha256}))
