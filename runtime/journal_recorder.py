"""What the policy process hands to the journal: its boot, every step, the ends of its episodes and where limits bent its will."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from poco.journal.records import EVERY_STEP_SIDE_MAX, VIEWED_SIDE_MAX, Boot, Ended, Noted, Stepped, viewed
from poco.records import EpisodeEnd, Step, StepKey
from poco.rollout import Transition
from poco.runtime.encoder import Images
from poco.runtime.entrance import Entrance
from poco.runtime.events import noted
from poco.runtime.eyes import Eyes
from poco.runtime.grid_images import GridImages
from poco.runtime.run_events import WeightsMoved
from poco.runtime.run_folder import Event, GenerationMoved
from poco.specification import Specification


class JournalRecorder:
    """The policy process' writer; no method waits or raises, whatever the state of the link process and its disk."""

    def __init__(
        self, run_name: str, robot: str, boot_epoch: int, generation: int, specification: Specification
    ) -> None:
        self._entrance = Entrance(run_name, f"policy-{boot_epoch}")
        boot = Boot(
            robot=robot,
            boot_epoch=boot_epoch,
            generation=generation,
            specification=specification,
            specification_hash=specification.digest(),
        )
        self._entrance.offer(boot)

    @property
    def trouble(self) -> str:
        """Why no new episode may begin; empty if one may."""
        self._entrance.pump()
        return self._entrance.spool.trouble

    def take(
        self,
        transition: Transition,
        actions: np.typing.ArrayLike,
        generation: int,
        episode: int,
        eyes: Eyes | None = None,
        grid: GridImages | None = None,
    ) -> None:
        """Record what the chunk `actions` led to, and what `eyes` saw meanwhile, on `grid` where a policy takes frames whole."""
        tick = int(transition.plan.spline["attach_tick"])
        for text in _bent(transition, actions):
            self._entrance.offer(Noted(event="clip", tick=tick, generation=generation, text=text, episode=episode))
        self.record(transition.steps, eyes, grid)

    def record(self, steps: Iterable[Step], eyes: Eyes | None = None, grid: GridImages | None = None) -> None:
        """Record `steps`, and what `eyes` saw meanwhile, as in `take`."""
        for step in steps:
            self._view(step.key, step.tick, eyes, None if grid is None else grid.of(step.key.step))
            self._entrance.offer(Stepped(step=step))

    def note(self, event: Event) -> None:
        """Record an event of the policy process, if the journal keeps its kind."""
        generation = event.generation if isinstance(event, GenerationMoved | WeightsMoved) else 0
        if (record := noted(event, generation)) is not None:
            self._entrance.offer(record)

    def saw(self, end: EpisodeEnd, steps: int, eyes: Eyes | None, taken_in: Images | None = None) -> None:
        """Record what `eyes` saw last in an episode of so many `steps`; `end` comes after it.

        `taken_in` are the images that a policy that takes frames whole would have made its next chunk of.
        """
        self._view(StepKey(end.robot, end.boot_epoch, end.episode, steps), end.tick, eyes, taken_in)

    def end(self, end: EpisodeEnd) -> None:
        """Record the end of an episode."""
        self._entrance.offer(Ended(end=end))

    def _view(self, key: StepKey, tick: int, eyes: Eyes | None, taken_in: Images | None = None) -> None:
        if eyes is None:
            return
        if taken_in is not None:
            self._show(key, eyes.cameras, taken_in)
        elif 0 < eyes.side <= EVERY_STEP_SIDE_MAX:
            self._show(key, eyes.cameras, eyes.images_at(tick))

    def _show(self, key: StepKey, cameras: Sequence[str], images: Images) -> None:
        if images.shape[-1] > VIEWED_SIDE_MAX:
            return
        for camera, image in zip(cameras, images, strict=True):
            for record in viewed(key, camera, image):
                self._entrance.offer(record)

    def settle(self, patience_s: float) -> bool:
        """At rest: wait until everything is durable, at most `patience_s`; tell whether it is."""
        return self._entrance.settle(patience_s)


def _bent(transition: Transition, actions: np.typing.ArrayLike) -> list[str]:
    """Say where the motion is not what the policy asked for."""
    values = np.asarray(actions, dtype=np.float64)
    beyond = int(np.count_nonzero(np.abs(values) > 1.0))
    texts = [f"{beyond} of {values.size} action values beyond [-1, 1]"] if beyond else []
    return texts + (["slowed down to stay within the limits"] if transition.plan.stretched else [])
