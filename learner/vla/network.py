"""What a learner must know to build a vision-language-action policy again: where its checkpoint lies, and what it is told."""

from __future__ import annotations

from typing import Literal

import msgspec


class VlaNetwork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A LeRobot checkpoint (folder `checkpoint`) and what its policy is told; the expert is ours, the rest is named by hash.

    `vlm` is the folder of the config of SmolVLA's VLM, `tokenizer` that of the tokenizer, `task` the words. `frozen_sha256` covers
    names and contents of all tensors that do not learn; "" is not known yet.
    """

    checkpoint: str
    task: str
    tokenizer: str
    vlm: str | None = None
    vision_positions: Literal["auto", "raster", "shifted"] = "auto"
    frozen_sha256: str = ""
