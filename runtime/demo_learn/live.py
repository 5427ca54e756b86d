"""What a person sees while the arm learns: one live view on a terminal, a line every few episodes elsewhere."""

from __future__ import annotations

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from poco.runtime.demo_learn import chart
from poco.runtime.demo_learn.figures import AVERAGED, Gain, rates_so_far
from poco.runtime.demo_learn.watch import Watch

HEIGHT = 9
GAUGE = {0: "100 %", HEIGHT // 2: " 50 %", HEIGHT - 1: "  0 %"}
ROOM = 14
"""Letters of a line that the chart cannot have: gauge, frame and margins."""

WIDTH_MIN = 20
EPISODES_MIN = 40
FEW = 5
"""Episodes from which on a success rate is drawn."""

EPISODES_A_LINE = 10
SENTENCES = 3


class View:
    """Shows a Watch; `minutes` is how long the arm is to learn."""

    def __init__(self, watch: Watch, episodes: int, minutes: float, console: Console) -> None:
        self._watch, self._episodes, self._minutes, self._console = watch, episodes, minutes, console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._note = ""
        self._told = self._said = 0

    def start(self) -> None:
        """Take the terminal."""
        if self._live:
            self._live.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """Say what is done next."""
        self._note = text
        if not self._live:
            self._console.print(text, highlight=False, markup=False)

    def show(self, elapsed_s: float) -> None:
        """Show what the watch knows, `elapsed_s` after the arm was started."""
        if self._live:
            self._live.update(self.picture(elapsed_s, self._console.width))
            return
        for sentence in self._watch.said[self._said :]:
            self._console.print(sentence, highlight=False, markup=False)
        self._said = len(self._watch.said)
        if len(self._watch.outcomes) >= self._told + EPISODES_A_LINE:
            self._told = len(self._watch.outcomes)
            rows = dict(self._rows(elapsed_s))
            self._console.print(f"{rows['episode']}; {rows['learner']}", highlight=False, markup=False)

    def picture(self, elapsed_s: float, width: int) -> Panel:
        """Return the whole view for a terminal of `width` letters."""
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold")
        table.add_column()
        for name, said in self._rows(elapsed_s):
            table.add_row(name, Text(said))
        for sentence in self._watch.said[-SENTENCES:]:
            table.add_row("", Text(sentence, style="dim"))
        table.add_row("", Text(self._note, style="bold"))
        title = "poco learns on the arm  (Ctrl-C stops the arm first, then the learner)"
        return Panel(Group(*self._chart(max(WIDTH_MIN, width - ROOM)), "", table), title=title, title_align="left")

    def _chart(self, width: int) -> list[Text]:
        count = max(EPISODES_MIN, len(self._watch.outcomes))
        lines = chart.curve(rates_so_far(self._watch.outcomes)[FEW - 1 :], FEW - 1, count, width, HEIGHT)
        drawn = [
            Text(
                f"success of the last {AVERAGED} episodes, fewer at the beginning; ▲ a generation became active",
                style="dim",
            )
        ]
        for number, line in enumerate(lines):
            drawn.append(Text.assemble((f"{GAUGE.get(number, '     ')} │", "dim"), (line, "bold green")))
        drawn.append(
            Text.assemble(("      ╰", "dim"), (chart.marks(self._watch.active_after, count, width, "▲"), "blue"))
        )
        drawn.append(Text(f"       0{f'{count} episodes':>{width - 1}}", style="dim"))
        return drawn

    def _rows(self, elapsed_s: float) -> list[tuple[str, str]]:
        return [
            ("episode", self._episode(elapsed_s)),
            ("policy", self._policy()),
            ("servo", self._servo()),
            ("journal", self._journal()),
            ("link", self._link()),
            ("learner", self._learner()),
        ]

    def _episode(self, elapsed_s: float) -> str:
        done = f"{len(self._watch.outcomes)} of at most {self._episodes}, {_clock(elapsed_s)} of {_clock(self._minutes * 60.0)}"
        gain = Gain.of(self._watch.outcomes)
        if gain is None:
            return done
        first, last = gain.first, gain.last
        return f"{done}; first {first.episodes}: {first.rate:.0%}, last {last.episodes}: {last.rate:.0%}"

    def _policy(self) -> str:
        driving = self._watch.driving
        if driving is None:
            return "the one it began with"
        return (
            f"generation {driving} ({self._watch.states[driving]}), {len(self._watch.active_after)} swapped in, "
            f"{self._watch.refused} refused"
        )

    def _servo(self) -> str:
        spent_us = self._watch.turnaround_us
        if not len(spent_us):
            return "not in motion yet"
        p50, p99 = np.percentile(spent_us, [50.0, 99.0])
        waited = f"; the arm waited {self._watch.dilation_s:.1f} s for this computer" if self._watch.dilation_s else ""
        return (
            f"turnaround p50 {p50:.0f} µs, p99 {p99:.0f} µs, longest {self._watch.longest_us / 1e3:.1f} ms, "
            f"{self._watch.over_1_ms} over 1 ms{waited}"
        )

    def _journal(self) -> str:
        if self._watch.link is None:
            return "not open yet"
        journal = self._watch.link.journal
        return (
            f"{journal.state}, {journal.durable} entries durable, {journal.used_bytes / 1e6:.1f} MB {journal.trouble}"
        )

    def _link(self) -> str:
        link = self._watch.link.link if self._watch.link else None
        if link is None:
            return "not open yet"
        return f"{link.state}, {link.acknowledged} entries with the learner, {link.waiting} waiting {link.trouble}"

    def _learner(self) -> str:
        learner = self._watch.learner
        if learner is None:
            return "not there yet"
        return (
            f"{learner.phase}: {learner.episodes} episodes, {learner.updates} updates, {learner.owed:.0f} owed, guards "
            f"{learner.guard.baseline:.0%}; {learner.published} published, {learner.withheld} withheld {learner.trouble}"
        )


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
