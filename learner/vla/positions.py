"""Which position ids the image patches get: versions of transformers disagree, and a policy learned those of its own version.

Raster order numbers the patches row by row. Some versions (4.55.1 to 4.57 in float32) repeat the first row and column and
leave out the last: 0, 0, 1, 2, ... each way.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from poco.errors import ArtifactError
from poco.vla import VisionPositions

Rule = Literal["auto", "raster", "shifted"]


def settle_positions(embedding: nn.Embedding | None, run: Any, asked: Rule) -> VisionPositions:
    """Find which ids `embedding` is asked for while `run()` looks at an image, and make them those that are `asked` for.

    Without an `embedding` the ids are fixed in raster order. Raises ArtifactError for ids that are neither rule's.
    """
    if embedding is None:
        if asked == "shifted":
            raise ArtifactError(
                "this type of policy has fixed vision positions in raster order: leave --vision-positions out"
            )
        return VisionPositions(asked=asked, found="raster")
    seen: list[Tensor] = []
    hook = embedding.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        with torch.no_grad():
            run()
    finally:
        hook.remove()
    ids = seen[0].reshape(-1)
    rules = _rules(round(ids.numel() ** 0.5), ids.device)
    found = [name for name, wanted in rules.items() if wanted.shape == ids.shape and bool((wanted == ids).all())]
    if not found:
        raise ArtifactError(
            "this version of transformers numbers image patches in an order that poco does not know: use 5.4 or 5.5"
        )
    if asked != "auto" and asked != found[0]:
        wanted = rules[asked]
        embedding.register_forward_pre_hook(lambda module, given: (wanted.to(given[0].device).expand_as(given[0]),))
    return VisionPositions(asked=asked, found=found[0])


def _rules(side: int, device: torch.device) -> dict[Literal["raster", "shifted"], Tensor]:
    steps = torch.arange(side, device=device)
    late = (steps - 1).clamp(min=0)
    return {
        "raster": (steps[:, None] * side + steps[None, :]).reshape(-1),
        "shifted": (late[:, None] * side + late[None, :]).reshape(-1),
    }
