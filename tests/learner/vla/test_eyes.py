"""Marks for images: what is remembered of an image, and at what cost."""

from __future__ import annotations

import numpy as np
import torch

from poco.learner.sight import encode
from poco.learner.vla.eyes import Eyes

SIDE = 16


def test_a_remembered_image_keeps_no_others_in_memory() -> None:
    """Of an episode with one image among black ones only that image stays, not the block that it was encoded with."""
    images = np.zeros((40, 1, 3, SIDE, SIDE), np.uint8)
    images[7] = np.random.default_rng(0).integers(1, 256, images.shape[1:], np.uint8)
    eyes = Eyes(("near",), SIDE, "frozen")
    observations = encode(eyes, images, np.zeros((40, 2), np.float32))
    (kept,) = eyes._newest.values()
    assert kept.flags.owndata
    assert kept.nbytes == images[7].nbytes
    found, there = eyes.look(torch.from_numpy(observations[:, : eyes.size]))
    np.testing.assert_array_equal(found.numpy(), images)
    np.testing.assert_array_equal(np.flatnonzero(there.numpy()), [7])
