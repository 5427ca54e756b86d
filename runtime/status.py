"""What a person sees while a run goes on: one live table on a terminal, one line an episode elsewhere."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.live import Live
from rich.table import Table

from poco.errors import ArtifactError
from poco.runtime.run_events import WeightsMoved
from poco.runtime.run_folder import (
    Dilation,
    EpisodeEnded,
    EpisodeLabelled,
    EpisodeStarted,
    Event,
    EventReader,
    GenerationMoved,
    HandsLost,
    RunFolder,
)
from poco.runtime.swap import SlotState
from poco.shm import RunMemory
from poco.trouble import TROUBLES, Mode

REFRESH_S = 0.25
WINDOW = 20_000


class Status:
    """Collects the figures of a run and shows them; supervisor only."""

    def __init__(self, folder: RunFolder, episodes: int, console: Console, keys: str = "") -> None:
        """Show the run in `folder` of so many episodes; `keys` says what the keys of the terminal do."""
        self._keys = keys
        self._new_events: Callable[[], list[Event]] = EventReader(folder).new
        self._episodes = episodes
        self._console = console
        self._turnaround_us = np.zeros(WINDOW)
        self._answered = 0
        self._events: Counter[str] = Counter()
        self._outcomes: dict[int, str] = {}
        self._running: int | None = None
        self._dilation: Dilation | None = None
        self._generations: dict[int, str] = {}
        self._next_s = 0.0
        self._notes: deque[str] = deque(maxlen=3)
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        if self._live:
            self._live.start()

    def add(self, ticks: npt.NDArray[np.void]) -> None:
        """Take in drained TICK records [n]."""
        newest = ticks[ticks["sent_ns"] > 0][-WINDOW:]
        rows = (self._answered + np.arange(len(newest))) % WINDOW
        self._turnaround_us[rows] = (newest["sent_ns"] - newest["state"]["received_ns"]) / 1e3
        self._answered += len(newest)
        codes, counts = np.unique(ticks["command"]["event"], return_counts=True)
        for code, count in zip(codes, counts, strict=True):
            if code:
                self._events[TROUBLES[int(code)].name] += int(count)

    def realtime(self, missing: str) -> None:
        """Say what of the real-time set-up could not be had."""
        self.note(f"real-time set-up incomplete: {missing}" if missing else "real-time set-up complete")

    def note(self, text: str) -> None:
        """Show one sentence."""
        self._notes.append(text)
        if not self._live:
            self._console.print(text, highlight=False)

    def show(self, memory: RunMemory) -> None:
        """Refresh, at most four times a second."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + REFRESH_S
        for event in self._read_events():
            if isinstance(event, Dilation):
                self._dilation = event
            elif isinstance(event, EpisodeStarted):
                self._running = event.episode
            elif isinstance(event, HandsLost):
                self.note(f"{event.reason}: the arm comes to rest; plug it in and start the run again")
            elif isinstance(event, EpisodeLabelled):
                self._label(event)
            elif isinstance(event, EpisodeEnded):
                self._running = None
                self._outcomes[event.episode] = event.outcome
                if not self._live:
                    self._console.print(self._line(event), highlight=False)
            elif isinstance(event, GenerationMoved):
                self._generations[event.generation] = event.after
                if event.after in (SlotState.PROBATION, SlotState.ACTIVE, SlotState.REJECTED):
                    self.note(f"generation {event.generation}: {event.after}{event.reason and f' ({event.reason})'}")
            elif isinstance(event, WeightsMoved) and event.after in (SlotState.ACTIVE, SlotState.REJECTED):
                self.note(f"weights {event.weights}: {event.after}{event.reason and f' ({event.reason})'}")
        if self._live:
            self._live.update(self._table(memory))

    def close(self, memory: RunMemory) -> None:
        """Show the end and leave the terminal as it was."""
        self._next_s = 0.0
        self.show(memory)
        if self._live:
            self._live.stop()

    def _read_events(self) -> list[Event]:
        """Return what is new of the record; where a line of it is torn that is said once, and no reason to stop an arm."""
        try:
            return self._new_events()
        except ArtifactError as error:
            self._new_events = list
            self.note(f"nothing new is shown: {error}")
            return []

    def _line(self, event: EpisodeEnded) -> str:
        return (
            f"episode {event.episode} ({self._finished} of {self._episodes}): {event.outcome} after {event.ticks / 1000:.1f} s, "
            f"{self._successes} succeeded so far, turnaround p99 {self._turnaround(99):.0f} us"
        )

    def _label(self, event: EpisodeLabelled) -> None:
        if event.outcome == "discarded":
            self._outcomes.pop(event.episode, None)
        else:
            self._outcomes[event.episode] = event.outcome
        self.note(f"episode {event.episode}: {event.outcome}, says the person")

    @property
    def _finished(self) -> int:
        return len(self._outcomes)

    @property
    def _successes(self) -> int:
        return sum(outcome == "success" for outcome in self._outcomes.values())

    def _chunk(self, state: npt.NDArray[np.void], memory: RunMemory) -> str:
        chunk = memory.read_chunk()
        if chunk is None or int(state["chunk_id"]) == 0:
            return "none"
        age_ms = int(state["tick"]) - int(chunk["attach_tick"])
        attached = f"{age_ms} ms old" if age_ms >= 0 else f"next one attaches in {-age_ms} ms"
        return f"{int(state['chunk_id'])}, {attached}"

    def _turnaround(self, percentile: float) -> float:
        return float(np.percentile(self._turnaround_us[: self._answered], percentile)) if self._answered else 0.0

    def _table(self, memory: RunMemory) -> Table:
        state = memory.read_state()
        table = Table(title="poco-runtime  (Ctrl-C brakes and stops)", show_header=False)
        table.add_row("episodes", f"{self._finished} of {self._episodes} ended, {self._successes} succeeded")
        table.add_row("now", "between episodes" if self._running is None else f"episode {self._running} runs")
        if self._keys:
            table.add_row("keys", self._keys)
        if state is not None:
            mode = Mode(int(state["mode"])).name.lower()
            table.add_row("servo", f"{mode}, robot time {int(state['tick']) / 1000:.1f} s")
            table.add_row("chunk", self._chunk(state, memory))
        if self._generations:
            newest = list(self._generations.items())[-3:]
            table.add_row("policy", ", ".join(f"generation {number} {state}" for number, state in newest))
        table.add_row("turnaround", f"p50 {self._turnaround(50):.0f} us, p99 {self._turnaround(99):.0f} us")
        table.add_row("events", ", ".join(f"{name} {count}" for name, count in self._events.most_common(5)) or "none")
        if self._dilation:
            table.add_row(
                "dilation", f"{self._dilation.total_s:.2f} s in all, {self._dilation.longest_s * 1e3:.0f} ms longest"
            )
        for text in self._notes:
            table.add_row("", text)
        return table
