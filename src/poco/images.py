"""From a camera frame to what an image encoder takes, the same for learner and robot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.compiled import kernel
from poco.errors import SettingsError

LEVELS = 256

Crop = tuple[int, int, int]
"""Row and column of a square window's upper left corner and its side, in pixels."""


def window_of(crop: Crop | None, height: int, width: int, side: int, camera: str) -> Crop:
    """Return the square window of a frame of `camera` that becomes an image of `side` pixels; None is the largest in the middle.

    Raises SettingsError for a window that is not inside the frame or has fewer pixels than the image. Before motion.
    """
    edge = min(height, width)
    top, left, length = crop or ((height - edge) // 2, (width - edge) // 2, edge)
    if min(top, left) < 0 or length < 1 or top + length > height or left + length > width:
        raise SettingsError(
            f"cameras: crop {list(crop or ())} of {camera} is not inside its frames of {width} x {height} pixels: give row, column "
            "and side of a window inside"
        )
    if length < side:
        raise SettingsError(
            f"cameras: {camera} shows {length} x {length} pixels of {width} x {height}, the policy sees {side} x {side}: give it a "
            "larger width, height or crop"
        )
    return top, left, length


@kernel
def as_seen(pixels: npt.NDArray[np.uint8], top: int, left: int, length: int, out: npt.NDArray[np.uint8]) -> None:
    """Write the square window of `length` pixels at `top`, `left` of `pixels` [H, W, 3] to `out` [3, side, side], levels as levels.

    Each pixel of `out` is the mean of the area it stands for, rounded; where side is `length` the levels stay as they are. The
    window must lie inside the image and be no smaller than `out`. Integers only, so every computer gives the same.
    """
    channels, side, _ = out.shape
    area = length * length
    for row in range(side):
        first_row, last_row = row * length, (row + 1) * length
        for column in range(side):
            first_column, last_column = column * length, (column + 1) * length
            for channel in range(channels):
                total = 0
                y = first_row // side
                while y * side < last_row:
                    high = min((y + 1) * side, last_row) - max(y * side, first_row)
                    x = first_column // side
                    while x * side < last_column:
                        wide = min((x + 1) * side, last_column) - max(x * side, first_column)
                        total += high * wide * int(pixels[top + y, left + x, channel])
                        x += 1
                    y += 1
                out[channel, row, column] = (2 * total + area) // (2 * area)


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
