"""What stands before a policy that sees: images become numbers in front of its observation, always the same of the same image."""

from __future__ import annotations

from typing import Protocol

import msgspec
from torch import Tensor

from poco.specification import SEEN, Field, Specification

DIGITS = 16
"""So many hexadecimal digits of an encoder's hash stand in a specification."""


class Encoder(Protocol):
    """Turns square images of `cameras`, `side` pixels each way, into `features` numbers each; it never changes."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras in the order of their images."""
        ...

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        ...

    @property
    def features(self) -> int:
        """Numbers that an image becomes."""
        ...

    def digest(self) -> str:
        """Return the hash that names it in the specification of what it has encoded."""
        ...

    def __call__(self, images: Tensor, state: Tensor) -> Tensor:
        """Return the observations [B, O] of `images` [B, cameras, 3, side, side] (u8) and `state` [B, S]."""
        ...


def with_features(specification: Specification, encoder: Encoder) -> Specification:
    """Return `specification` with what the frozen `encoder` makes of each camera's image in front of its observation.

    The fields name the encoder by its hash, so that nothing encoded by another one passes for the same.
    """
    source, size = SEEN + encoder.digest()[:DIGITS], encoder.features
    fields = tuple(
        Field(name=f"image_{camera}", source=source, frame=camera, unit="1", low=(-1.0,) * size, high=(1.0,) * size)
        for camera in encoder.cameras
    )
    return msgspec.structs.replace(specification, observation=(*fields, *specification.observation))
