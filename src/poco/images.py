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


def fitted(frame: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of a `frame` (height, width) once it fills an `image` (height, width) with its ratio kept."""
    ratio = max(frame[0] / image[0], frame[1] / image[1])
    return max(1, int(frame[0] / ratio)), max(1, int(frame[1] / ratio))


def padding_of(frame: tuple[int, int], image: tuple[int, int], centred: bool) -> tuple[int, int]:
    """Return how many rows above and columns left of the fitted `frame` are empty: half of what is left, or all of it."""
    rows, columns = fitted(frame, image)
    above, left = image[0] - rows, image[1] - columns
    return (above // 2, left // 2) if centred else (above, left)


@kernel
def resize_with_pad(
    pixels: npt.NDArray[np.uint8], rows: int, columns: int, above: int, left: int, out: npt.NDArray[np.float32]
) -> None:
    """Write `pixels` [H, W, 3], resized to `rows` x `columns`, to `out` [3, h, w] in -1 ... 1, at `above` and `left`.

    Bilinear between pixel centres without antialiasing, places rounded as torch rounds them; what lies outside is -1. `fitted`
    and `padding_of` give the four numbers. Policy process; also whoever compares with a library.
    """
    height, width, channels = pixels.shape
    one = np.float32(1.0)
    step = np.float64(np.float32(width) / np.float32(columns))
    first = np.empty(columns, np.int64)
    second = np.empty(columns, np.int64)
    share = np.empty(columns, np.float32)
    for column in range(columns):
        at = np.float32(max((column + 0.5) * step - 0.5, 0.0))
        first[column] = min(int(at), width - 1)
        second[column] = min(first[column] + 1, width - 1)
        share[column] = at - np.float32(first[column])
    level = np.float32(2.0 / 255.0)
    line = np.empty((channels, width), np.float32)
    out[...] = -one
    step = np.float64(np.float32(height) / np.float32(rows))
    for row in range(rows):
        at = np.float32(max((row + 0.5) * step - 0.5, 0.0))
        upper = min(int(at), height - 1)
        low = (at - np.float32(upper)) * level
        high = level - low
        one_row, other_row = pixels[upper], pixels[min(upper + 1, height - 1)]
        for column in range(width):
            for channel in range(channels):
                line[channel, column] = high * one_row[column, channel] + low * other_row[column, channel] - one
        for channel in range(channels):
            values, target = line[channel], out[channel, above + row]
            for column in range(columns):
                near = values[first[column]]
                target[left + column] = near + share[column] * (values[second[column]] - near)
