"""A real run of `poco-runtime --robot sim` whose processes a benchmark may disturb while the arm moves."""

from __future__ import annotations

import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from poco.errors import PocoError
from poco.parent import end_with_parent
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import RunOptions
from poco.shm import RunMemory
from poco.trouble import Mode

ENDLESS = 100_000
MOTION_LIMIT_S = 180.0
END_LIMIT_S = 60.0
LOOK_S = 0.02
ROUGH = ["--robot.collision_force_n", "[200, 200, 200, 60, 60, 60]"]
"""Thresholds (N, Nm) that leave a run alone which begins again in the middle of an insertion."""


class LiveRun:
    """One endless run at `host` in real time, its folder `folder`, started behind `prefix` with `environment` added."""

    def __init__(
        self,
        host: str,
        policy: Path,
        folder: Path,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] = {},
        flags: Sequence[str] = (),
    ) -> None:
        """Start it; raises PocoError if the arm does not move within MOTION_LIMIT_S."""
        program = str(Path(sys.executable).with_name("poco-runtime"))
        words = ["--robot", "sim", "--robot.host", host, "--policy", str(policy), "--out", str(folder)]
        words += ["--emulator.pacing", "realtime", "--episodes", str(ENDLESS), *ROUGH, *flags]
        self.path = folder
        self._log = folder.with_name(folder.name + ".log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, program, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=partial(end_with_parent, signals.SIGTERM),
            )
        self._memory: RunMemory | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def processes(self) -> dict[str, int]:
        """Return the ids of its processes that live, by name: supervisor, servo, policy, emulator."""
        supervisor = self.process.pid
        found = {"supervisor": supervisor}
        for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if b"-m" in words:
                found[words[words.index(b"-m") + 1].decode().rpartition(".")[2]] = int(child)
        return found

    def wait_until_moving(self) -> None:
        """Wait until the servo follows a chunk; raises PocoError with the run's last words if it does not come to that."""
        deadline_s = time.monotonic() + MOTION_LIMIT_S
        while not self._moving():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                words = self._log.read_text(errors="replace").strip().splitlines()
                raise PocoError(f"the arm does not move ({(words or ['no message'])[-1]}): see {self._log}")
            time.sleep(LOOK_S)

    def ticks(self) -> npt.NDArray[np.void]:
        """Return the TICK records [n] on disk so far."""
        return RunFolder.open(self.path).ticks()

    def end(self) -> None:
        """Stop the run as Ctrl-C does, kill it if it does not mind."""
        if self.process.poll() is None:
            self.process.send_signal(signals.SIGINT)
            try:
                self.process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _moving(self) -> bool:
        if self._memory is None:
            options = self.path / "options.json"
            if not options.is_file():
                return False
            try:
                name = msgspec.json.decode(options.read_bytes(), type=RunOptions).run_name
                self._memory = RunMemory.attach(name)
            except (PocoError, msgspec.MsgspecError):
                return False
        state = self._memory.read_state()
        return state is not None and Mode(int(state["mode"])) == Mode.FOLLOWING
