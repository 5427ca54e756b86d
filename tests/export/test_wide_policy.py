"""A widened policy has the parameters that were asked for and gives the chunks of the narrow one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from wide_policy import widen

from poco.artifact import read_artifact
from programs import ARTIFACT


def test_wide_policy_does_the_same() -> None:
    """300,000 parameters instead of 152,000, and the golden chunks to rounding; all of the new weights are there."""
    artifact = read_artifact(ARTIFACT)
    policy = widen(artifact, 3e5, 0)
    assert sum(value.numel() for value in policy.state_dict().values()) == pytest.approx(3e5, rel=0.01)
    golden = {name: torch.from_numpy(value.astype(np.float32)) for name, value in artifact.golden.items()}
    with torch.inference_mode():
        chunk = policy(golden["observation"], golden["noise"])
    np.testing.assert_allclose(chunk.numpy(), golden["chunk"].numpy(), atol=1e-4)
    layer = policy.state_dict()["hidden_layers.0.weight"].numpy()
    assert np.count_nonzero(layer[256:, :256]) == layer[256:, :256].size


def test_narrower_is_refused() -> None:
    """A policy is not made smaller."""
    with pytest.raises(ValueError, match="fewer"):
        widen(read_artifact(ARTIFACT), 1e4, 0)
