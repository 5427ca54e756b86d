"""Figures of a training run as TensorBoard reads them; the extra `tensorboard` brings what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from poco.errors import UsageError
from poco.learner.metrics import EpisodeFigures


@contextmanager
def tensorboard_log(folder: Path, steps: int) -> Iterator[Callable[[EpisodeFigures], None]]:
    """Yield a function that adds the figures of one episode to the event file in `folder`, over control steps.

    What earlier processes of the run wrote beyond `steps`, from where it goes on, is hidden. Raises UsageError without the extra.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            f"--tensorboard needs the extra of that name ({error}): pip install poco-robot[tensorboard]"
        ) from error
    writer = SummaryWriter(str(folder), purge_step=steps + 1)

    def add(figures: EpisodeFigures) -> None:
        scalars = {
            "episode/success": float(figures.success),
            "episode/recent_success": figures.recent_success,
            "episode/number": figures.episode,
            "episode/updates": figures.updates,
        }
        if figures.origin is not None:
            scalars["episode/generation"] = figures.origin.generation
        scalars |= {f"evaluation/{key}": value for key, value in figures.evaluation.items()}
        scalars |= {f"learning/{key}": value for key, value in figures.diagnostics.items()}
        for key, value in scalars.items():
            writer.add_scalar(key, value, figures.steps)

    try:
        yield add
    finally:
        writer.close()
