"""Cameras of a simulated task: what a policy is shown instead of being told where the target is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from poco import observation
from poco.errors import UsageError
from poco.images import as_seen
from poco.records import Step, TaskSignal
from poco.specification import Specification
from poco.views import Album, Shown, Views

from ..arm import SimulatedArm
from ..renderer import open_renderer

SIDE_MIN, SIDE_MAX = 32, 480


class TaskCameras:
    """Takes a picture with every camera at every observation; the process that simulates owns it.

    `specification` is the one given without its fields of the target. What those fields would have said goes with the images, for
    training.
    """

    def __init__(self, arm: SimulatedArm, names: tuple[str, ...], side: int, specification: Specification) -> None:
        """Open a renderer of square images, `side` pixels each way; raises UsageError for a side that is none, PocoError without
        a way to render.
        """
        if not SIDE_MIN <= side <= SIDE_MAX:
            raise UsageError(
                f"image_side is {side} pixels, must lie in {SIDE_MIN} to {SIDE_MAX}: choose for example 64"
            )
        self.specification, self._told = observation.without_target(specification)
        self._arm, self._names, self._side = arm, names, side
        self._renderer = open_renderer(arm.model, side, side)
        self._album = Album(names)

    @property
    def shown(self) -> Shown:
        """What images and target it gives."""
        return Shown(cameras=self._names, side=self._side, target_size=self._told.observation_size)

    def observe(
        self, state: npt.NDArray[np.void], signal: TaskSignal, specification: Specification
    ) -> npt.NDArray[np.float32]:
        """Return the observation vector, and take the pictures that belong to it."""
        self._album.put(int(state["tick"]), self._pictures(), observation.observe(state, signal, self._told))
        return observation.observe(state, signal, specification)

    def views(self, steps: Sequence[Step]) -> Views:
        """Return what was seen at each of `steps` and at the newest observation; everything older is forgotten."""
        return self._album.views(steps)

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def _pictures(self) -> npt.NDArray[np.uint8]:
        """Return the images [cameras, 3, side, side]."""
        pictures = np.zeros(self.shown.image_shape, np.uint8)
        for name, picture in zip(self._names, pictures, strict=True):
            self._renderer.update_scene(self._arm.data, name)
            as_seen(self._renderer.render(), 0, 0, self._side, picture)
        return pictures
