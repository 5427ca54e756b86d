"""Image patches are numbered by the rule that is asked for, and the rule of the installed version is found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from poco.errors import ArtifactError
from poco.learner.vla.positions import settle_positions

SIDE = 4


def ids_of(rule: str) -> torch.Tensor:
    steps = torch.arange(SIDE) if rule == "raster" else (torch.arange(SIDE) - 1).clamp(min=0)
    return (steps[:, None] * SIDE + steps).reshape(1, -1)


@pytest.mark.parametrize("installed", ["raster", "shifted"])
@pytest.mark.parametrize("asked", ["auto", "raster", "shifted"])
def test_positions_are_found_and_follow_what_is_asked(installed: str, asked: str) -> None:
    """Whatever rule a version has is found; afterwards patches are numbered as asked for, as before with auto."""
    embedding = nn.Embedding(SIDE * SIDE, 2)
    found = settle_positions(embedding, lambda: embedding(ids_of(installed)), asked)  # type: ignore[arg-type]
    assert (found.found, found.asked) == (installed, asked)
    wanted = installed if asked == "auto" else asked
    with torch.no_grad():
        assert torch.equal(embedding(ids_of(installed)), embedding.weight[ids_of(wanted)])


class Recording(nn.Embedding):
    """An embedding that remembers where the ids were that it was asked for."""

    device_of_ids: torch.device

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embed `ids`."""
        self.device_of_ids = ids.device
        return super().forward(ids)


def test_positions_follow_the_policy_to_another_device() -> None:
    """Settled on the CPU and asked for elsewhere, as after `to("cuda")`, the ids are where the policy is."""
    embedding = Recording(SIDE * SIDE, 2)
    settle_positions(embedding, lambda: embedding(ids_of("raster")), "shifted")
    embedding.to("meta")
    embedding(ids_of("raster").to("meta"))
    assert embedding.device_of_ids.type == "meta"


def test_positions_nobody_knows_are_refused() -> None:
    """An order of patches that is neither rule's, and a rule that a policy cannot have, are refused."""
    embedding = nn.Embedding(SIDE * SIDE, 2)
    with pytest.raises(ArtifactError, match="does not know"):
        settle_positions(embedding, lambda: embedding(ids_of("raster").flip(1)), "auto")
    with pytest.raises(ArtifactError, match="raster order"):
        settle_positions(None, lambda: None, "shifted")
