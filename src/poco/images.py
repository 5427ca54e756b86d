"""From a camera frame to what an image encoder takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.compiled import kernel

LEVELS = 256


@kernel
def crop_and_normalise(
    pixels: npt.NDArray[np.uint8],
    top: int,
    left: int,
    mean: npt.NDArray[np.float32],
    deviation: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Write (pixels / 255 - mean) / deviation of the window [h, w] at `top`, `left` to `out` [3, h, w], channel by channel.

    `pixels` is [H, W, 3] RGB; `mean` and `deviation` are [3] in units of full scale. The window must lie inside the image.
    Policy process and learner may call it.
    """
    channels, height, width = out.shape
    table = np.empty((channels, LEVELS), np.float32)
    for channel in range(channels):
        for level in range(LEVELS):
            table[channel, level] = (np.float32(level / 255.0) - mean[channel]) / deviation[channel]
    for row in range(height):
        line = pixels[top + row, left : left + width]
        for channel in range(channels):
            values, target = table[channel], out[channel, row]
            for column in range(width):
                target[column] = values[line[column, channel]]
