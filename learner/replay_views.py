"""The images of a replay, beside its steps: as they came, in a memory-mapped file that counts against the replay's size.

Learning behind a frozen encoder of ours never reads them, each having been encoded on its way in. Prefixes of a
vision-language-action policy are made of them again when they are no longer kept, and whoever clones a new encoder reads them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from poco.errors import ArtifactError
from poco.learner.replay_index import Booleans, Integers
from poco.learner.replay_layout import PLACE, PLACES_FILE, VIEWS_FILE, ReplayHeader, view_record
from poco.views import Shown, Views


class ReplayViews:
    """One row for each row of steps, then one for each slot of the episode table; the process of the replay owns it.

    Where images come to few observations only, a row holds the place, from 1 on, at which its images lie, 0 where there are none:
    they are black then.
    """

    def __init__(self, folder: Path, header: ReplayHeader, shown: Shown, used: Integers) -> None:
        """Open the images of a replay with `header`, whose rows `used` belong to episodes that it holds."""
        self._shown, self._rows = shown, header.rows
        rows = header.rows + header.slots
        self._places = None if header.images is None else np.memmap(folder / PLACES_FILE, PLACE, "r+", shape=(rows,))
        self._file = np.memmap(folder / VIEWS_FILE, view_record(shown), "r+", shape=(header.images or rows,))
        self._taken = np.zeros(len(self._file), np.bool_)
        self._taken[self._located(used)[1]] = True

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
        count = np.count_nonzero(self._there(views))
        if count > len(self._file):
            raise ArtifactError(
                f"{name} has images of {count} observations, the replay takes {len(self._file)}: raise replay_bytes"
            )

    def lacks_room(self, views: Views) -> bool:
        """Whether images have to be released before `views` can be put."""
        free = len(self._taken) - np.count_nonzero(self._taken)
        return self._places is not None and bool(np.count_nonzero(self._there(views)) > free)

    def put(self, first: int, slot: int, views: Views) -> None:
        """Keep `views` of the episode whose steps begin at row `first` and whose end has `slot`."""
        rows, there = self._rows_of(first, len(views.images) - 1, slot), self._there(views)
        if self._places is not None:
            free = np.flatnonzero(~self._taken)[: np.count_nonzero(there)]
            self._places[rows], self._places[rows[there]] = 0, free + 1
            self._taken[free] = True
        _, places = self._located(rows)
        for name in ("images", "target"):
            self._file[name][places] = getattr(views, name)[there]

    def release(self, rows: Integers) -> None:
        """Let others have the places of the images in `rows`, whose episodes the replay forgets."""
        self._taken[self._located(rows)[1]] = False

    def of(self, first: int, steps: int, slot: int) -> Views:
        """Return a copy of what `put` was given."""
        there, places = self._located(self._rows_of(first, steps, slot))
        found = {}
        for name in ("images", "target"):
            column = self._file[name]
            found[name] = np.zeros((steps + 1, *column.shape[1:]), column.dtype)
            found[name][there] = column[places]
        return Views(self._shown.cameras, found["images"], found["target"])

    def images(self, row: int) -> npt.NDArray[np.uint8]:
        """Return a copy of the images [cameras, 3, side, side] of one row."""
        _, places = self._located(np.array([row]))
        return np.array(self._file["images"][places[0]]) if len(places) else np.zeros(self._shown.image_shape, np.uint8)

    def flush(self) -> None:
        """Return when everything is on the disk."""
        self._file.flush()
        if self._places is not None:
            self._places.flush()

    def _rows_of(self, first: int, steps: int, slot: int) -> Integers:
        return np.append(np.arange(first, first + steps), self._rows + slot)

    def _there(self, views: Views) -> Booleans:
        """Tell of which observations [n + 1] there is something to keep: of all of them, or of those that are not wholly black."""
        if self._places is None:
            return np.ones(len(views.images), np.bool_)
        seen = [image.any() or target.any() for image, target in zip(views.images, views.target, strict=True)]
        return np.array(seen, np.bool_)

    def _located(self, rows: Integers) -> tuple[Booleans, Integers]:
        """Return which of `rows` have images, and where in the file those lie."""
        if self._places is None:
            return np.ones(len(rows), np.bool_), rows
        places = self._places[rows].astype(np.int64)
        there = (places > 0) & (places <= len(self._file))
        return there, places[there] - 1
