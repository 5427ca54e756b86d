"""What a learner must know to build a vision-language-action policy again: where its checkpoint lies, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from poco.errors import UsageError
from poco.learner.datasets.lerobot_layout import IMAGES


class VlaNetwork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A LeRobot checkpoint (folder `checkpoint`) and what its policy is told; the expert is ours, the rest is named by hash.

    `vlm` is the folder of the config of SmolVLA's VLM, `tokenizer` that of the tokenizer, `task` the words. `cameras` are
    IMAGE=CAMERA as for `poco-export vla`; without any it sees nothing. `frozen_sha256` covers names and contents of all tensors
    that do not learn; "" is not known yet.
    """

    checkpoint: str
    task: str
    tokenizer: str
    vlm: str | None = None
    vision_positions: Literal["auto", "raster", "shifted"] = "auto"
    cameras: tuple[str, ...] = ()
    frozen_sha256: str = ""


def camera_names(keys: tuple[str, ...], given: tuple[str, ...]) -> Mapping[str, str | None]:
    """Return the robot's camera for every image key: as `given`, else the last word of the key, None for an empty one.

    Where several keys end alike, all of what follows `observation.images.` stands for the word.
    """
    tails = [key.rpartition(".")[2] for key in keys]
    words = {
        tail if tails.count(tail) == 1 else key.removeprefix(IMAGES): key for tail, key in zip(tails, keys, strict=True)
    }
    named: dict[str, str | None] = {
        key: None if word.startswith("empty_camera_") else word for word, key in words.items()
    }
    for item in given:
        word, equals, camera = item.partition("=")
        if not equals or word not in words or not camera:
            raise UsageError(f"--cameras {item} is not IMAGE=CAMERA with one of the images {', '.join(words)}")
        named[words[word]] = None if camera == "none" else camera
    used = [camera for camera in named.values() if camera is not None]
    if not used or len(set(used)) != len(used):
        raise UsageError(
            f"--cameras gives the images {', '.join(words)} the cameras {used}: each image needs one of its own"
        )
    return named
