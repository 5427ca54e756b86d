"""A gymnasium environment that lives in a process of its own, in this Python or in another one.

The learner never waits for it without a deadline: a process that dies, hangs or talks nonsense is replaced, and named if
that does not help.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt

import poco
from poco.errors import PocoError, UsageError
from poco.learner import environment_frames as frames
from poco.records import EpisodeEnd, Step
from poco.specification import Specification
from poco.views import Shown, Views

MAKE_S = 120.0
"""So long a worker may take to import its suite and make the environment."""

ANSWER_S = 60.0
"""So long one reset or one chunk may take."""

COMING_S = 10.0
"""So long the rest of an answer may take that has begun to come; images do not fit into a socket as a whole."""

RESTARTS_MAX = 3
"""So often in a row, without a finished episode, a worker is replaced before the run gives up."""

Floats = npt.NDArray[np.float32]
Parameters = dict[str, bool | int | float | str]


class EnvironmentLost(PocoError):
    """The worker died, did not answer in time or sent what is no frame; the episode under way is lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a reset or a chunk: the newest observation, what happened until then, and what cameras saw."""

    observation: Floats
    reward: float
    terminated: bool
    truncated: bool
    steps: list[Step]
    end: EpisodeEnd | None
    views: Views | None


class Eyes(Protocol):
    """What makes observations of images."""

    @property
    def specification(self) -> Specification:
        """The contract of the observations it makes."""
        ...

    def look(self, answer: Answer) -> Answer:
        """Return `answer` with the observations that it makes of the images, in its steps as well."""
        ...


class EnvironmentProcess(gymnasium.Env[Floats, Floats]):
    """The environment `task`, made with `parameters` by a worker that `python` runs; what it prints goes to `log`.

    `reset` and `step` wait for the answer; `ask` and `answer` are their halves, for whoever has other work meanwhile. Raises
    UsageError if the environment cannot be made and EnvironmentLost for what `restart` may help against.
    """

    def __init__(
        self, task: str, parameters: Parameters, log: Path, python: Path | None = None, answer_s: float = ANSWER_S
    ) -> None:
        self._task, self._parameters, self._log = task, parameters, log
        self._python, self._answer_s = python or Path(sys.executable), answer_s
        self._restarts = 0
        self.eyes: Eyes | None = None
        """What stands between the images of the environment and whoever acts, if anything."""
        self.shown: Shown | None = None
        """What images come with every observation."""
        self._start()

    @property
    def process(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def overdue(self) -> bool:
        """Whether the answer to what was asked is late."""
        return self.left_s <= 0.0

    @property
    def left_s(self) -> float:
        """How long the answer may still take."""
        return self._deadline_s - time.monotonic()

    def fileno(self) -> int:
        """Return what `select` watches: readable when an answer has come or the worker has gone."""
        return self._connection.fileno()

    def ask(self, request: frames.Reset | frames.Act, chunk: Floats | None = None) -> None:
        """Send `request` without waiting for the answer."""
        self._deadline_s = time.monotonic() + self._answer_s
        try:
            frames.send(self._connection, request, chunk)
        except frames.FrameError as error:
            raise self._lost(error) from error

    def answer(self) -> Answer:
        """Return the observation and what happened until then, waiting for the rest of the time it may take.

        One that has begun to come is waited for even when its time is over: it was the caller who had other work meanwhile.
        """
        if select.select([self], [], [], 0.0)[0]:
            self._deadline_s = max(self._deadline_s, time.monotonic() + COMING_S)
        try:
            reply, observation = self._receive(frames.Observed)
            views = Views(reply.cameras, *self._attached()) if reply.cameras else None
        except frames.FrameError as error:
            raise self._lost(error) from error
        if reply.end is not None:
            self._restarts = 0
        answer = Answer(
            np.array(observation), reply.reward, reply.terminated, reply.truncated, reply.steps, reply.end, views
        )
        return answer if self.eyes is None else self.eyes.look(answer)

    def _receive(self, kind: type[frames.Observed] | type[frames.Attached]) -> tuple[Any, frames.Array | None]:
        return frames.receive(self._connection, kind, max(0.0, self.left_s) + 1e-3)

    def _attached(self) -> tuple[npt.NDArray[np.uint8], Floats]:
        """Return the images and the target that follow an observation; raises FrameError for other arrays."""
        (_, images), (_, target) = (self._receive(frames.Attached) for _ in range(2))
        kinds = [None if array is None else (str(array.dtype), array.ndim) for array in (images, target)]
        if images is None or target is None or kinds != [("uint8", 5), ("float32", 2)] or len(images) != len(target):
            raise frames.FrameError(f"arrays of {kinds} came for images and target")
        return images, target

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Begin the episode of `seed` and return its first observation."""
        self.ask(frames.Reset(seed or 0))
        return self.answer().observation, {"outcome": "running", "steps": list[Step]()}

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Execute the chunk `action` [T, A]."""
        self.ask(frames.Act(frames.layout_of(action)), action)
        answer = self.answer()
        info: dict[str, Any] = {"steps": answer.steps}
        if answer.end is not None:
            info["end"] = answer.end
        if answer.views is not None:
            info["views"] = answer.views
        return answer.observation, answer.reward, answer.terminated, answer.truncated, info

    def restart(self, reason: EnvironmentLost) -> None:
        """Replace the worker; raises PocoError naming what its last words were when that has not helped RESTARTS_MAX times."""
        self._restarts += 1
        self._end()
        if self._restarts > RESTARTS_MAX:
            raise PocoError(f"{reason}; replacing it {RESTARTS_MAX} times in a row did not help: read {self._log}")
        self._start()

    def close(self) -> None:
        """End the worker."""
        self._end()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._way = tempfile.TemporaryDirectory(prefix="poco-worker-")
        (Path(self._way.name) / "poco").symlink_to(Path(poco.__file__).parent)
        path = os.pathsep.join(filter(None, (self._way.name, os.environ.get("PYTHONPATH"))))
        words: list[str | Path] = [self._python, "-m", "poco.learner.environment_worker", str(theirs.fileno())]
        try:
            with self._log.open("ab") as log, theirs:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, "PYTHONPATH": path},
                )
        except OSError as error:
            raise UsageError(f"{self._python} cannot be started ({error.strerror}): check --env-python") from error
        self._connection = ours
        self._deadline_s = time.monotonic() + MAKE_S
        self._specification = self._make()

    def _make(self) -> Specification:
        try:
            frames.send(self._connection, frames.Make(self._task, self._parameters))
            reply, _ = frames.receive(self._connection, frames.Made | frames.Refused, MAKE_S)
        except frames.FrameError as error:
            self._end()
            raise UsageError(
                f"{self._lost(error)}: --env-python needs numpy, msgspec, pyyaml, gymnasium and the suite"
            ) from error
        if isinstance(reply, frames.Refused):
            self._end()
            raise UsageError(
                f"the environment {self._task} cannot be made with {self._parameters} ({reply.sentence}): check --task"
            )
        assert isinstance(reply, frames.Made)
        self.shown = reply.shown
        return reply.specification

    @property
    def specification(self) -> Specification:
        """The contract under which steps come from here."""
        return self._specification if self.eyes is None else self.eyes.specification

    def _lost(self, error: frames.FrameError) -> EnvironmentLost:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        words = f", its last words were {lines[-1]!r}" if lines else ""
        return EnvironmentLost(f"the environment worker {self._log.stem} failed: {error}{words}")

    def _end(self) -> None:
        self._connection.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._way.cleanup()
