"""What cameras saw during a demonstration, for its episode file: beside what is observed, as a policy would see it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from poco.observation import observe
from poco.records import Step, TaskSignal
from poco.runtime.eyes import Eyes
from poco.specification import Specification
from poco.views import Album, Views


class Demonstrated:
    """Looks through `eyes` and keeps the images of one episode after the other. Policy process only.

    `hidden` is what of the task is shown instead of told; what it would have said goes with the images, for training.
    """

    def __init__(self, eyes: Eyes, hidden: Specification) -> None:
        self._eyes, self._hidden = eyes, hidden
        self._album = Album(eyes.cameras)

    def look(
        self, state: npt.NDArray[np.void], signal: TaskSignal, specification: Specification
    ) -> npt.NDArray[np.float32]:
        """Return the observation [O] of what is told, and keep the images that belong to it."""
        observation = self._eyes.look(state, signal, specification)
        told = bool(self._hidden.observation)
        target = observe(state, signal, self._hidden) if told else np.zeros(0, np.float32)
        self._album.put(int(state["tick"]), self._eyes.glance.images, target)
        return observation

    def views(self, steps: Sequence[Step]) -> Views:
        """Return what was seen at each of `steps`, all of an episode, and at its end."""
        return self._album.views(steps)
