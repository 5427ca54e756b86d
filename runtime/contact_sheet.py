"""What was demonstrated, at one glance: the tip's path and what cameras saw of every episode, and how many came out how."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from poco.clock import TICK_S
from poco.episodes import Episode, read_episode
from poco.kinematics import forward
from poco.records import DISCARDED
from poco.runtime.episode_book import SUFFIX
from poco.runtime.run_folder import RunFolder
from poco.specification import unscale
from poco.views import Views

Floats = npt.NDArray[np.float64]

CONTACT_SHEET = "contact_sheet.png"
COLUMNS = 8
CELL_IN = 1.55
MOMENTS = 3
VIEW_RAD = (math.radians(35.0), math.radians(25.0))
"""From where the paths are seen: about the vertical, and from above."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One episode in the sheet: its number, outcome, duration (s) and the commanded tip path [steps + 1, 3] (m, base frame).

    `frames` [cameras x side, MOMENTS x side, 3] is what its cameras saw at its beginning, in its middle and at its end.
    """

    number: int
    outcome: str
    duration_s: float
    path: Floats
    frames: npt.NDArray[np.uint8] | None


def shown(episode: Episode) -> Shown:
    """Return what the sheet shows of `episode` of an FR3: its commanded motion, from the start pose on."""
    specification, end = episode.specification, episode.end
    executed = np.array([step.action_executed for step in episode.steps]).reshape(-1, specification.action_size)
    physical = unscale(specification.action, executed)
    rest, _ = forward(np.array(specification.rest_q), specification.tip)
    if specification.action_space == "tip_delta":
        path = rest + np.concatenate([np.zeros((1, 3)), np.cumsum(physical[:, :3], axis=0)])
    else:
        path = np.array([rest, *(forward(np.ascontiguousarray(q), specification.tip)[0] for q in physical)])
    ticks = end.tick - episode.steps[0].tick if episode.steps else 0
    return Shown(
        end.episode, end.outcome, ticks * TICK_S, path, None if episode.views is None else frames(episode.views)
    )


def frames(views: Views) -> npt.NDArray[np.uint8]:
    """Return what is shown of `views`: a row for every camera, MOMENTS from left to right."""
    images = views.images[np.linspace(0, len(views.images) - 1, MOMENTS).round().astype(int)]
    rows, columns = images.shape[1] * images.shape[3], MOMENTS * images.shape[4]
    mosaic: npt.NDArray[np.uint8] = images.transpose(1, 3, 0, 4, 2).reshape(rows, columns, 3)
    return mosaic


def read_all(folder: RunFolder) -> list[Shown]:
    """Read the episodes of the run in `folder`, those that were thrown away too; raises ArtifactError for a damaged file."""
    kept = [shown(read_episode(file)) for file in folder.episodes.glob(f"*{SUFFIX}")]
    thrown = [shown(read_episode(file)) for file in (folder.path / DISCARDED).glob(f"*{SUFFIX}")]
    away = [replace(one, outcome=DISCARDED) for one in thrown]
    return sorted([*kept, *away], key=lambda one: one.number)


def show_demonstrations(folder: RunFolder, console: Console) -> None:
    """Draw the contact sheet of the run in `folder` and print counts, where it lies and what to do next."""
    episodes = read_all(folder)
    if not episodes:
        console.print("no demonstration was recorded", highlight=False)
        return
    draw(episodes, folder.path / CONTACT_SHEET)
    console.print(f"[bold]{counts(episodes)}[/bold]", highlight=False)
    console.print(f"  {folder.path / CONTACT_SHEET}", highlight=False, soft_wrap=True)
    if any(one.outcome != DISCARDED for one in episodes):
        console.print(
            f"  poco-learner clone --data {folder.episodes} --out CHECKPOINT", highlight=False, soft_wrap=True
        )


def counts(episodes: list[Shown]) -> str:
    """Return how many episodes came out how, in one line."""
    found = Counter(one.outcome for one in episodes)
    kept = len(episodes) - found[DISCARDED]
    seconds = sum(one.duration_s for one in episodes if one.outcome != DISCARDED)
    return (
        f"{kept} demonstration{'' if kept == 1 else 's'} kept ({found['success']} success, {kept - found['success']} failure), "
        f"{found[DISCARDED]} discarded, {seconds / 60:.1f} min of motion"
    )


def draw(episodes: list[Shown], path: Path) -> None:
    """Draw one small picture an episode, all to one scale: the path seen obliquely, its shadow on the lowest level below it, and
    under it what cameras saw."""
    from matplotlib import pyplot as plt

    from poco.runtime.panels import GREEN, GREY, INK, ORANGE

    colors = {"success": GREEN, DISCARDED: GREY}
    floor = min(float(one.path[:, 2].min()) for one in episodes)
    drawn = [
        (project(one.path), project(np.column_stack([one.path[:, :2], np.full(len(one.path), floor)])))
        for one in episodes
    ]
    everything = np.concatenate([points for pair in drawn for points in pair])
    low, high = everything.min(axis=0), everything.max(axis=0)
    pad = 0.06 * float(np.max(high - low)) + 1e-3
    columns = min(COLUMNS, len(episodes))
    rows = -(-len(episodes) // columns)
    seen = max((one.frames.shape[0] / one.frames.shape[1] for one in episodes if one.frames is not None), default=0.0)
    heights = [CELL_IN, CELL_IN * seen] if seen else [CELL_IN]
    size = (max(columns * CELL_IN, 6.5), rows * (sum(heights) + 0.3) + 0.5)
    lines, ratios = rows * len(heights), heights * rows
    figure, grid = plt.subplots(lines, columns, height_ratios=ratios, figsize=size, squeeze=False, layout="constrained")
    figure.suptitle(counts(episodes), fontsize=8.5, fontweight="bold", x=0.012, ha="left", color=INK)
    for axes in grid.ravel():
        axes.set_axis_off()
    if seen:
        for axes, one in zip(grid[1::2].ravel(), episodes, strict=False):
            if one.frames is not None:
                axes.imshow(one.frames)
    for axes, one, (line, shadow) in zip(grid[:: len(heights)].ravel(), episodes, drawn, strict=False):
        color = colors.get(one.outcome, ORANGE)
        axes.plot(*shadow.T, color="#dddddd", linewidth=1.0)
        axes.plot(*line.T, color=color, linewidth=1.3)
        axes.plot(*line[0], "o", color=INK, markersize=2.5)
        axes.plot(*line[-1], "o", color=color, markersize=4.0)
        axes.set_title(f"{one.number}  {one.outcome}  {one.duration_s:.1f} s", fontsize=7, color=color)
        axes.set_xlim(low[0] - pad, high[0] + pad)
        axes.set_ylim(low[1] - pad, high[1] + pad)
        axes.set_aspect("equal")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def project(points: Floats) -> Floats:
    """Return points [n, 3] as they are seen from VIEW_RAD, [n, 2]: to the right and up."""
    turn, rise = VIEW_RAD
    right = points[:, 0] * math.sin(turn) - points[:, 1] * math.cos(turn)
    away = points[:, 0] * math.cos(turn) + points[:, 1] * math.sin(turn)
    return np.column_stack([right, points[:, 2] * math.cos(rise) + away * math.sin(rise)])
