"""The images of a policy that takes frames whole, at the steps of an episode from which its learner learns.

The learner cuts an episode on a grid of `execute_steps`. A policy that chooses without interruption does so on that grid and has
made its images there. After a person's chunk, or one that was cut, it chooses beside it: then images are made for the journal.
"""

from __future__ import annotations

from poco.motion import Plan
from poco.runtime.actors import Actor, Rehearse
from poco.runtime.chunk_session import Pixels
from poco.runtime.encoder import Images
from poco.runtime.eyes import Eyes


class GridImages:
    """Images at every `execute_steps`-th step of an episode, as `actor` makes them of what `eyes` see; policy process only.

    There are none where nobody sees, or where `eyes` make the images themselves.
    """

    def __init__(self, actor: Actor, eyes: Eyes | None) -> None:
        self._actor, self._every = actor, actor.specification.execute_steps
        self._eyes = None if eyes is None or eyes.side else eyes
        self._step = 0
        self._frames: dict[int, tuple[Pixels, ...]] = {}
        self._images: dict[int, Images] = {}

    def saw(self, step: int) -> None:
        """Keep the newest frames if `step`, which begins with them, is on the grid; step 0 begins another episode."""
        self._step = step
        if step == 0:
            self._frames.clear()
            self._images.clear()
        if self._eyes is not None and step % self._every == 0:
            self._frames[step] = tuple(frame.copy() for frame in self._eyes.frames)
            self._images.pop(step, None)

    def meanwhile(self, rehearse: Rehearse, live: Plan) -> None:
        """Take the images once the chunk is published, since that takes time, and let the actor use what there is of it."""
        self.chose()
        self._actor.meanwhile(rehearse, live)

    def chose(self) -> None:
        """Take the images of the newest frames, if the actor has made a chunk of them."""
        taken_in = self._actor.taken_in
        if self._step in self._frames and taken_in is not None:
            self._images[self._step] = taken_in

    def of(self, step: int) -> Images | None:
        """Return the images [cameras, 3, side, side] of `step`, once; None beside the grid, or where they are no squares."""
        frames, images = self._frames.pop(step, None), self._images.pop(step, None)
        return self._actor.images_of(frames) if images is None and frames is not None else images
