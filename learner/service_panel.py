"""What a person sees of a serving learner: one live table on a terminal, lines elsewhere; and the same for programs."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from poco.learner.metrics import EpisodeFigures
from poco.learner.publications import Publication
from poco.learner.service import Service
from poco.learner.service_status import ServiceStatus, prometheus, status_of
from poco.learner.status_page import StatusPage
from poco.learner.success_guard import TOLD

REFRESH_S = 0.25
STATUS_FILE = "status.json"
NOBODY = "no robot is connected"


class Board:
    """Shows a service in the terminal, in status.json of the run folder and on a page, four times a second."""

    def __init__(self, service: Service, folder: Path, page: StatusPage | None, console: Console) -> None:
        self._service, self._folder, self._page, self._console = service, folder, page, console
        self._started_unix_s = time.time()
        self._next_s = 0.0
        self._notes: deque[str] = deque(maxlen=5)
        self._told = {"robots": NOBODY}
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        if self._live:
            self._live.start()

    def note(self, text: str) -> None:
        """Show one sentence."""
        self._notes.append(f"{time.strftime('%H:%M:%S')}  {text}")
        if not self._live:
            self._console.print(text, highlight=False, soft_wrap=True)

    def show(self) -> None:
        """Refresh if a quarter of a second has passed."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + REFRESH_S
        status = status_of(self._service, self._started_unix_s)
        document = msgspec.json.encode(status)
        self._write(document)
        if self._page is not None:
            self._page.pages = {
                "/status.json": ("application/json", document),
                "/metrics": ("text/plain; version=0.0.4", prometheus(status).encode()),
            }
        self._tell(status)
        if self._live:
            self._live.update(self._table(status))

    def episode(self, figures: EpisodeFigures) -> None:
        """Say how an episode went, in a line where there is no panel."""
        if figures.verdict in TOLD:
            self.note(TOLD[figures.verdict].format(self._service.learning.progress.guard.baseline))
        if self._live or figures.origin is None:
            return
        origin, recent, episodes = figures.origin, self._service.recent, self._service.learning.progress.episodes
        outcome = "success" if figures.success else "no success"
        self.note(
            f"episode {origin.episode} of {origin.robot} (generation {origin.generation}): {outcome} after {origin.steps} steps; "
            f"of {episodes} in all {sum(recent)} of the last {len(recent)} succeeded"
        )

    def published(self, publication: Publication) -> None:
        """Say what was published."""
        cause = {
            "learned": f"{publication.updates} updates in all",
            "rolled_back": "the best actor again",
            "floor": "a robot has seen more than was on offer",
        }[publication.cause]
        self.note(f"generation {publication.generation} published after {publication.episodes} episodes: {cause}")

    def close(self) -> None:
        """Show the end and leave the terminal as it was."""
        self._next_s = 0.0
        self.show()
        if self._live:
            self._live.stop()

    def _write(self, document: bytes) -> None:
        part = self._folder / f"{STATUS_FILE}.part"
        try:
            part.write_bytes(document)
            part.rename(self._folder / STATUS_FILE)
        except OSError:
            return  # the status can be missed

    def _tell(self, status: ServiceStatus) -> None:
        """Say once what is new among what a person should know."""
        connected = ", ".join(name for name, robot in status.robots.items() if robot.connected)
        sentences = {
            "robots": f"connected: {connected}" if connected else NOBODY,
            "withheld": status.last_withheld and f"withheld: {status.last_withheld}",
            "refused": status.last_refusal and f"not learned from: {status.last_refusal}",
            "trouble": status.trouble or ("inbox and link are well again" if self._told.get("trouble") else ""),
        }
        for about, sentence in sentences.items():
            if sentence and sentence != self._told.get(about):
                self.note(sentence)
        self._told = {**sentences, "trouble": status.trouble}

    def _table(self, status: ServiceStatus) -> Table:
        table = Table(title="poco-learner serve  (Ctrl-C ends with a checkpoint)", show_header=False)
        robots = [
            f"{name}{'' if robot.connected else ' (away)'} driven by generation {robot.driving or '?'}"
            for name, robot in status.robots.items()
        ]
        table.add_row("robots", f"{', '.join(robots) or 'none yet'}, served at {status.address}")
        table.add_row("episodes", f"{status.episodes}, {status.steps} steps")
        table.add_row("success", f"{status.successes_20} of the last {status.recent}")
        table.add_row("updates", f"{status.updates}, {status.owed} owed, {status.refused_updates} refused")
        level = f"level {status.guard.baseline:.0%}, best {status.guard.best:.0%}"
        table.add_row("phase", f"{status.phase}, guard: {level}, went back {status.guard.roll_backs} times")
        table.add_row("generation", f"{status.generation}, {status.published} published, {status.withheld} withheld")
        table.add_row("inbox", f"{status.inbox_bytes / 1e6:.1f} MB, {status.rejected_messages} messages rejected")
        for text in self._notes:
            table.add_row("", text)
        return table
