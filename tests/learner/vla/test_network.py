"""Cameras that a user names for the images of a policy are understood or refused."""

from __future__ import annotations

import pytest

from poco.errors import UsageError
from poco.learner.vla.network import camera_names

KEYS = ("observation.images.top", "observation.images.wrist", "observation.images.empty_camera_0")


def test_cameras_keep_their_names_unless_told() -> None:
    """The last word of a key is the camera; an image may get another, or none; empty cameras are none."""
    assert list(camera_names(KEYS, ()).values()) == ["top", "wrist", None]
    assert list(camera_names(KEYS, ("top=front", "wrist=none")).values()) == ["front", None, None]


def test_keys_that_end_alike_are_told_apart() -> None:
    """No image loses its camera to another whose key ends with the same word; each is called by more of it."""
    keys = tuple(f"observation.images.{side}.rgb" for side in ("left", "right"))
    assert camera_names(keys, ()) == dict(zip(keys, ("left.rgb", "right.rgb"), strict=True))
    assert list(camera_names(keys, ("left.rgb=near", "right.rgb=none")).values()) == ["near", None]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("side=front",), "images top, wrist"),
        (("top",), "not IMAGE=CAMERA"),
        (("top=",), "not IMAGE=CAMERA"),
        (("top=front", "wrist=front"), "one of its own"),
        (("top=none", "wrist=none"), "one of its own"),
    ],
)
def test_cameras_that_cannot_be_are_refused(given: tuple[str, ...], sentence: str) -> None:
    """An image that the policy does not have, no name, one camera for two images and no camera at all are refused."""
    with pytest.raises(UsageError, match=sentence):
        camera_names(KEYS, given)
