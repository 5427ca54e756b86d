"""Camera frames become encoder inputs exactly as the formula says."""

from __future__ import annotations

import numpy as np
import pytest

from poco.images import crop_and_normalise

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


@pytest.mark.parametrize(("height", "width", "top", "left"), [(12, 17, 0, 0), (5, 6, 3, 4), (1, 1, 11, 16)])
def test_window_is_cut_normalised_and_put_channel_first(height: int, width: int, top: int, left: int) -> None:
    """Whole image, a window inside and the last pixel agree with numpy in double precision."""
    pixels = np.random.default_rng(height).integers(0, 256, (12, 17, 3), np.uint8)
    out = np.full((3, height, width), np.nan, np.float32)
    crop_and_normalise(pixels, top, left, MEAN, DEVIATION, out)
    window = pixels[top : top + height, left : left + width].astype(np.float64)
    wanted = ((window / 255.0 - MEAN) / DEVIATION).transpose(2, 0, 1)
    np.testing.assert_allclose(out, wanted, atol=1e-6)


def test_every_level_is_reached() -> None:
    """Black and white are the ends of the range."""
    pixels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    out = np.zeros((3, 1, 256), np.float32)
    crop_and_normalise(pixels, 0, 0, np.full(3, 0.5, np.float32), np.full(3, 0.5, np.float32), out)
    assert out[0, 0, 0] == -1.0
    assert out[2, 0, 255] == 1.0
    assert np.all(np.diff(out, axis=2) > 0.0)
