"""Camera frames become encoder inputs exactly as the formula says."""

from __future__ import annotations

import numpy as np
import pytest

from poco.errors import SettingsError
from poco.images import Crop, as_seen, crop_and_normalise, fitted, padding_of, resize_with_pad, window_of

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


def mean_of_area(pixels: np.ndarray, side: int) -> np.ndarray:
    """The area mean of a square image [L, L, 3] as [3, side, side], by way of a grid that both sides divide."""
    length = len(pixels)
    fine = pixels.astype(np.float64).repeat(side, axis=0).repeat(side, axis=1)
    means: np.ndarray = fine.reshape(side, length, side, length, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    return means


@pytest.mark.parametrize(("length", "side"), [(8, 8), (16, 8), (12, 8), (21, 13), (48, 32), (9, 1)])
def test_images_are_means_of_areas(length: int, side: int) -> None:
    """Whatever the ratio, each level is the mean of its area rounded to the nearest."""
    pixels = np.random.default_rng(length).integers(0, 256, (length + 3, length + 5, 3), np.uint8)
    out = np.zeros((3, side, side), np.uint8)
    as_seen(pixels, 2, 4, length, out)
    wanted = mean_of_area(pixels[2 : 2 + length, 4 : 4 + length], side)
    assert np.abs(out - wanted).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(out, np.floor(wanted + 0.5 + 1e-9))


def test_an_image_of_the_right_size_is_kept_bit_for_bit() -> None:
    """Where nothing is to be made smaller, levels only change their order."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    out = np.zeros((3, 64, 64), np.uint8)
    as_seen(pixels, 0, 0, 64, out)
    np.testing.assert_array_equal(out, pixels.transpose(2, 0, 1))


def test_the_window_is_the_middle_unless_it_is_named() -> None:
    """Without a crop the largest square in the middle; one that is named stays."""
    assert window_of(None, 480, 640, 64, "near") == (0, 80, 480)
    assert window_of(None, 64, 64, 64, "near") == (0, 0, 64)
    assert window_of((10, 20, 100), 480, 640, 64, "near") == (10, 20, 100)


@pytest.mark.parametrize(
    ("crop", "words"),
    [((0, 0, 481), "not inside"), ((-1, 0, 100), "not inside"), ((0, 600, 41), "not inside"), ((0, 0, 63), "larger")],
)
def test_windows_that_show_too_little_are_refused(crop: Crop, words: str) -> None:
    """One that leaves the frame, and one with fewer pixels than the policy sees."""
    with pytest.raises(SettingsError, match=words):
        window_of(crop, 480, 640, 64, "near")


def resized(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """`pixels` [H, W, 3] in torch's float arithmetic, bilinear between pixel centres, without antialiasing, in -1 ... 1."""
    torch = pytest.importorskip("torch")
    levels = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255.0
    image = torch.nn.functional.interpolate(levels, size=(rows, columns), mode="bilinear", align_corners=False)
    resized: np.ndarray = (image * 2.0 - 1.0)[0].numpy()
    return resized


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(
    ("frame", "image"),
    [
        ((480, 640), (512, 512)),
        ((480, 640), (224, 224)),
        ((720, 1280), (512, 512)),
        ((64, 48), (64, 64)),
        ((30, 31), (224, 224)),
        ((64, 64), (64, 64)),
        ((90, 1), (8, 8)),
        ((40, 50), (24, 72)),
    ],
)
def test_frames_fill_an_image_with_their_ratio_kept(
    frame: tuple[int, int], image: tuple[int, int], centred: bool
) -> None:
    """Smaller, larger, upright and square frames equal a float reference to 3e-6; what is left is black."""
    pixels = np.random.default_rng(frame[0]).integers(0, 256, (*frame, 3), np.uint8)
    out = np.full((3, *image), np.nan, np.float32)
    (rows, columns), (above, left) = fitted(frame, image), padding_of(frame, image, centred)
    assert rows == image[0] or columns == image[1]
    free = image[0] - rows, image[1] - columns
    assert (above, left) == ((free[0] // 2, free[1] // 2) if centred else free)
    resize_with_pad(pixels, rows, columns, above, left, out)
    inside = out[:, above : above + rows, left : left + columns]
    np.testing.assert_allclose(inside, resized(pixels, rows, columns), atol=3e-6, rtol=0.0)
    inside[...] = -1.0
    np.testing.assert_array_equal(out, np.full_like(out, -1.0))
