"""Pictures of an episode that was run on the simulated arm: a strip of frames and a clip, drawn from the recorded joints.

`python -m poco.hw.emulator.replay RUN --out strip.png`. A program of its own, so that nothing that drives an arm loads a renderer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import tyro
from PIL import Image, ImageDraw, ImageFont

from poco.clock import TICK_S
from poco.command_line import run_command
from poco.errors import ArtifactError, UsageError, guard
from poco.records import TICK

from .renderer import choose_renderer, open_renderer

if TYPE_CHECKING:
    from .tasks.peg_in_hole import PegInHole

Joints = npt.NDArray[np.float64]

STRIP_FRAMES, STRIP_COLUMNS, STRIP_SIDE = 8, 4, 360
CLIP_SIDE, CLIP_STEP_TICKS, CLIP_FRAMES_MAX = 256, 100, 80
CAMERA = "task"


class _Line(msgspec.Struct):
    """What this program needs of a line of events.jsonl."""

    kind: str
    tick: int
    episode: int = -1
    seed: int = 0
    outcome: str = "unfinished"


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode as recorded: number, seed of the scene, outcome, and measured joints `q` [n, 7] (rad) at `seconds` [n]."""

    number: int
    seed: int
    outcome: str
    q: Joints
    seconds: Joints


def read_episode(run: Path) -> Episode:
    """Return the first episode of `run` that succeeded and of which all ticks are kept, else the first of which they are.

    Raises UsageError if `run` holds no such episode and ArtifactError if its events are not readable.
    """
    events, records = run / "events.jsonl", run / "ticks.bin"
    if not events.is_file() or not records.is_file():
        raise UsageError(f"{run} holds no recorded episode: name a folder that poco-runtime made")
    try:
        lines = [msgspec.json.decode(line, type=_Line) for line in events.read_bytes().split(b"\n")[:-1]]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{events} is not readable ({error}): record the run again") from error
    ticks = np.fromfile(records, TICK, count=records.stat().st_size // TICK.itemsize)
    ends = {line.episode: line for line in lines if line.kind == "episode_end"}
    starts = [line for line in lines if line.kind == "episode_start"]
    starts.sort(key=lambda start: start.episode not in ends or ends[start.episode].outcome != "success")
    numbers = ticks["state"]["tick"]
    for start in starts:
        end = ends.get(start.episode, start)
        first = int(np.searchsorted(numbers, start.tick))
        last = len(numbers) if end is start else int(np.searchsorted(numbers, end.tick, side="right"))
        running = slice(first, last)
        if last > first and numbers[0] <= start.tick:
            seconds = (numbers[running] - numbers[running][0]) * TICK_S
            return Episode(start.episode, start.seed, end.outcome, ticks["state"]["q"][running], seconds)
    raise UsageError(f"{run} holds no recorded episode: run one first")


def frames(task: PegInHole, episode: Episode, rows: npt.NDArray[np.int64], side: int) -> Iterator[Image.Image]:
    """Render `rows` of `episode` as the task's camera sees them, `side` pixels square; raises PocoError without a renderer."""
    task.place(episode.seed)
    with open_renderer(task.arm.model, side, side) as renderer:
        for row in rows:
            task.arm.reset(episode.q[row])
            renderer.update_scene(task.arm.data, CAMERA)
            yield Image.fromarray(renderer.render())


def strip(task: PegInHole, episode: Episode) -> Image.Image:
    """Return frames evenly spread over `episode`, each with its time, in rows of STRIP_COLUMNS."""
    rows = np.linspace(0, len(episode.q) - 1, STRIP_FRAMES).round().astype(np.int64)
    gap, font = 4, ImageFont.load_default(size=18)
    lines = -(-STRIP_FRAMES // STRIP_COLUMNS)
    size = (STRIP_COLUMNS * (STRIP_SIDE + gap) - gap, lines * (STRIP_SIDE + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    for place, frame in enumerate(frames(task, episode, rows, STRIP_SIDE)):
        label = f"{episode.seconds[rows[place]]:.1f} s"
        if place == STRIP_FRAMES - 1:
            label += f"  episode {episode.number}: {episode.outcome}"
        pen = ImageDraw.Draw(frame)
        pen.text((10, 8), label, "white", font, stroke_width=2, stroke_fill="black")
        line, column = divmod(place, STRIP_COLUMNS)
        sheet.paste(frame, (column * (STRIP_SIDE + gap), line * (STRIP_SIDE + gap)))
    return sheet


def write_clip(task: PegInHole, episode: Episode, path: Path) -> None:
    """Write `episode` as an animated GIF in its own time, slower sampled where it is long."""
    step = max(CLIP_STEP_TICKS, len(episode.q) // CLIP_FRAMES_MAX)
    rows = np.arange(0, len(episode.q), step)
    first, *rest = (frame.quantize(64) for frame in frames(task, episode, rows, CLIP_SIDE))
    first.save(path, save_all=True, append_images=rest, duration=round(step * TICK_S * 1000.0), loop=0)


def replay(
    run: Annotated[Path, tyro.conf.Positional],
    out: Path,
    gif: Path | None = None,
    clearance_mm: float | None = None,
) -> None:
    """Draw one episode of a run on the simulated arm: the first that succeeded, else the first.

    Args:
        run: Folder that poco-runtime made.
        out: PNG to write the strip of frames to.
        gif: GIF to write a clip to.
        clearance_mm: Gap between peg and hole on each side as it was in the run; that of the easy variant if not given.
    """
    episode = read_episode(run)
    choose_renderer()
    from .tasks.peg_in_hole import EASY, PegInHole

    task = PegInHole(EASY if clearance_mm is None else replace(EASY, clearance_m=clearance_mm / 1000.0))
    strip(task, episode).save(out)
    if gif is not None:
        write_clip(task, episode, gif)


if __name__ == "__main__":
    guard(lambda: run_command(replay, "python -m poco.hw.emulator.replay"))
