"""What a training run writes down: one line of figures for each episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from poco.durable import append_durably, write_durably
from poco.errors import ArtifactError
from poco.learner.agent_settings import Phase

METRICS_FILE = "metrics.jsonl"


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an episode came from that a robot sent: its name, process and number, the generation that drove at its end, its length
    in control steps and when the replay took it (seconds since 1970)."""

    robot: str
    boot_epoch: int
    episode: int
    generation: int
    steps: int
    admitted_unix_s: float


class EpisodeFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of metrics.jsonl: one training episode, means of the diagnostics of its updates, evaluation after it if any.

    beliefs: what the target critic expected of the chunks executed from steps 0, E, 2E ... on, E = execute_steps, before it
    learned from this episode. Against the outcomes they say how far to trust it.
    """

    episode: int
    steps: int
    updates: int
    phase: Phase
    success: bool
    recent_success: float
    verdict: str
    diagnostics: dict[str, float]
    evaluation: dict[str, float] = {}
    beliefs: list[float] = []
    origin: Origin | None = None


def means(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the means of the diagnostics of several updates, none of none."""
    return {key: float(np.mean([one[key] for one in figures])) for key in (figures[0] if figures else {})}


def append_figures(folder: Path, figures: EpisodeFigures) -> None:
    """Write the line of one episode durably to the metrics of the run in `folder`, before a checkpoint counts the episode."""
    append_durably(folder / METRICS_FILE, msgspec.json.encode(figures) + b"\n")


def keep_figures(folder: Path, episodes: int) -> None:
    """Forget the lines after the first `episodes`: a resumed run writes them again."""
    file = folder / METRICS_FILE
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    write_durably(file, b"".join(lines[:episodes]))


def read_figures(folder: Path) -> list[EpisodeFigures]:
    """Read the metrics of the run in `folder`; raises ArtifactError if there are none or a line is damaged."""
    file = folder / METRICS_FILE
    if not file.is_file() or not file.stat().st_size:
        raise ArtifactError(f"no metrics of a training run in {file}: run `poco-learner train` first")
    try:
        return [msgspec.json.decode(line, type=EpisodeFigures) for line in file.read_bytes().splitlines()]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"metrics {file} hold a damaged line ({error}): resume the run, which mends the last one, or remove it"
        ) from error
