"""The images of a replay, beside its steps: as they came, in a memory-mapped file that counts against the replay's size.

Learning behind a frozen encoder of ours never reads them, each having been encoded on its way in. Prefixes of a
vision-language-action policy are made of them again when they are no longer kept, and whoever clones a new encoder reads them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from poco.errors import ArtifactError
from poco.learner.replay_layout import VIEWS_FILE, view_record
from poco.views import Shown, Views


class ReplayViews:
    """One row for each row of steps, then one for each slot of the episode table; the process of the replay owns it."""

    def __init__(self, folder: Path, shown: Shown, rows: int, slots: int) -> None:
        self._shown, self._rows = shown, rows
        self._file = np.memmap(folder / VIEWS_FILE, view_record(shown), "r+", shape=(rows + slots,))

    def check(self, name: str, views: Views | None, steps: int) -> None:
        """Raise ArtifactError unless `views` are those of the episode `name` with so many `steps`."""
        if views is None or views.shown != self._shown:
            raise ArtifactError(
                f"{name} has the images {None if views is None else views.shown}, the replay keeps {self._shown}: record it with "
                "the cameras of the run"
            )
        kinds = views.images.dtype == np.uint8, len(views.images) == len(views.target) == steps + 1
        if not all(kinds) or views.images.shape[1:] != self._shown.image_shape or not np.isfinite(views.target).all():
            raise ArtifactError(
                f"{name} has images {views.images.dtype}{list(views.images.shape)} for {steps} steps: discard it"
            )

    def put(self, first: int, slot: int, views: Views) -> None:
        """Keep `views` of the episode whose steps begin at row `first` and whose end has `slot`."""
        steps = len(views.images) - 1
        for rows, seen in ((slice(first, first + steps), slice(steps)), (self._rows + slot, -1)):
            for name in ("images", "target"):
                self._file[name][rows] = getattr(views, name)[seen]

    def of(self, first: int, steps: int, slot: int) -> Views:
        """Return a copy of what `put` was given."""
        images, target = (
            np.concatenate((self._file[name][first : first + steps], self._file[name][self._rows + slot][None]))
            for name in ("images", "target")
        )
        return Views(self._shown.cameras, images, target)

    def images(self, row: int) -> npt.NDArray[np.uint8]:
        """Return a copy of the images [cameras, 3, side, side] of one row of the file."""
        return np.array(self._file["images"][row])

    def flush(self) -> None:
        """Return when everything is on the disk."""
        self._file.flush()
