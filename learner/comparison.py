"""Methods compared over seeds: which runs there are, what each still lacks, and the processes that do it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from poco.errors import PocoError, UsageError
from poco.learner import training_state
from poco.learner.evaluation import Evaluation, read_evaluations
from poco.learner.interruption import stop_politely
from poco.learner.recipe import TrainingSettings, endless
from poco.parent import end_with_parent

POLL_S = 0.5
LOG_FILE = "run.log"
PROGRAM = (sys.executable, "-m", "poco.learner.cli")

Words = tuple[str, ...]
Works = dict["Candidate", "subprocess.Popen[bytes]"]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One run of the comparison: a recipe with a seed, trained on `device` in `folder` by `poco-learner train` with `words`."""

    label: str
    seed: int
    folder: Path
    settings: TrainingSettings
    words: Words
    device: str = "cpu"

    @property
    def begun(self) -> bool:
        """Whether there is a state to go on from; raises UsageError if it is one of another recipe or seed."""
        states = self.folder / "states"
        if not training_state.has_state(states):
            return False
        identity = training_state.read_header(states).identity
        if identity.seed != self.seed or endless(identity.settings) != endless(self.settings):
            raise UsageError(f"{self.folder} holds a run of another recipe or seed: choose another --out or remove it")
        return True

    @property
    def finished(self) -> bool:
        """Whether it has been trained to its end."""
        return self.begun and training_state.read_header(self.folder / "states").progress.reached(self.settings)

    @property
    def share(self) -> float:
        """Which part of the training its newest state has done, 0 to 1."""
        if not self.begun:
            return 0.0
        progress = training_state.read_header(self.folder / "states").progress
        by_steps = progress.steps / self.settings.steps if self.settings.steps else 0.0
        return min(1.0, max(by_steps, progress.episodes / self.settings.episodes))

    @property
    def evaluations(self) -> dict[int, Evaluation]:
        """Evaluations of the run as it is now, by the number of samples acted with."""
        if not self.begun:
            return {}
        steps = training_state.read_header(self.folder / "states").progress.steps
        return {one.best_of: one for one in read_evaluations(self.folder) if one.steps == steps}


@dataclass(frozen=True, slots=True)
class Measure:
    """How finished runs are measured: number of fresh episodes, and modes besides the one that the method acts in."""

    episodes: int
    best_of: tuple[int, ...]

    def modes(self, candidate: Candidate) -> tuple[int, ...]:
        """Return how many samples `candidate` is measured with; Q-chunking is the best of its candidates and nothing else."""
        own = candidate.settings.best_of
        return (own,) if own > 1 else tuple(dict.fromkeys((own, *self.best_of)))


def carry_out(
    candidates: Sequence[Candidate], measure: Measure, jobs: int, report: Callable[[float, str], None]
) -> None:
    """Train and measure what is missing, `jobs` processes at a time; `report` gets the number of trained runs and a remark.

    What is there is left alone, what was broken off goes on. Raises PocoError at the end if runs failed, naming the first
    of `candidates` that did.
    Ctrl-C or SIGTERM lets the running ones end their episode and write a checkpoint; a second one ends them at once.
    """
    waiting, running, last = deque(candidates), Works(), dict[Candidate, Words]()
    failures: dict[Candidate, str] = {}
    note = "ending the runs after their episodes, with checkpoints; Ctrl-C again ends them at once"
    with stop_politely(note, signal.SIGTERM) as stopping:
        while waiting or running:
            if stopping():
                _interrupt(running)
                raise KeyboardInterrupt
            for candidate in [one for one, process in running.items() if process.poll() is not None]:
                if running.pop(candidate).returncode:
                    failures[candidate] = _last_words(candidate)
                else:
                    waiting.appendleft(candidate)
            while waiting and len(running) < jobs:
                candidate = waiting.popleft()
                words = missing(candidate, measure)
                if words and words == last.get(candidate):
                    failures[candidate] = (
                        f"{candidate.folder} lacks what `poco-learner {' '.join(words)}` should have left"
                    )
                elif words:
                    last[candidate], running[candidate] = words, _start(candidate, words)
            report(sum(one.share for one in candidates), ", ".join(f"{one.label} {one.seed}" for one in running))
            time.sleep(POLL_S if running else 0.0)
    if failures:
        first = next(failures[one] for one in candidates if one in failures)
        raise PocoError(f"{len(failures)} of {len(candidates)} runs failed, the first: {first}")


def missing(candidate: Candidate, measure: Measure) -> Words:
    """Return the words of the next command of `poco-learner` that `candidate` lacks, none if it is trained and measured."""
    folder = str(candidate.folder)
    if not candidate.finished:
        begin = ("--resume", "--device", candidate.device) if candidate.begun else candidate.words
        settings = candidate.settings
        return ("train", "--out", folder, *begin, "--episodes", str(settings.episodes), "--steps", str(settings.steps))
    known = candidate.evaluations
    for mode in measure.modes(candidate):
        if mode not in known or known[mode].episodes < measure.episodes:
            return ("evaluate", "--checkpoint", folder, "--best-of", str(mode), "--episodes", str(measure.episodes))
    return ()


def _start(candidate: Candidate, words: Words) -> subprocess.Popen[bytes]:
    """Start `poco-learner` with `words`, out of reach of the terminal's Ctrl-C; when this process is killed it is too."""
    candidate.folder.mkdir(parents=True, exist_ok=True)
    with (candidate.folder / LOG_FILE).open("wb") as log:
        return subprocess.Popen(
            [*PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGKILL),
        )


def _interrupt(running: Works) -> None:
    """Ask all to end by SIGTERM, since in the background of a script SIGINT is ignored, and wait for them."""
    processes = running.values()
    _signal(processes, signal.SIGTERM)
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        _signal(processes, signal.SIGKILL)


def _signal(processes: Iterable[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in processes:
        process.send_signal(number)


def _last_words(candidate: Candidate) -> str:
    log = candidate.folder / LOG_FILE
    lines = log.read_text(errors="replace").strip().splitlines() or ["nothing on standard error"]
    return f"{candidate.label} with seed {candidate.seed} ended with {lines[-1]!r} (see {log})"
