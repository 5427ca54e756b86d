"""`poco-learner serve` in a process of its own that can be killed: forked, so that torch need not be loaded for every life."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from link_run import PATIENCE_S, free_address
from poco.artifact import Artifact
from poco.errors import guard
from poco.learner.recipe import TrainingSettings
from poco.learner.serving_commands import serve
from poco.trust import write_private_key

for _module in ("curves", "learning", "publish", "service_panel"):
    importlib.import_module(f"poco.learner.{_module}")
importlib.import_module("torch._dynamo")
"""What `serve` and torch's optimizers import when they are first used; a fork has it already."""


class Served:
    """One run folder and whoever serves it at the moment."""

    def __init__(
        self,
        folder: Path,
        artifact: Artifact,
        recipe: TrainingSettings,
        key: Ed25519PrivateKey,
        host: str,
        **flags: Any,
    ) -> None:
        """Prepare recipe and key; nothing runs yet."""
        self.out, self.address = folder / "served", free_address(host)
        self._status = self.out / "status.json"
        config, private = folder / "recipe.yaml", folder / "learner.key"
        config.write_text(yaml.safe_dump(msgspec.to_builtins(recipe)))
        write_private_key(private, key)
        self._log = folder / "served.log"
        self._flags = {
            "artifact": artifact.path,
            "out": self.out,
            "config": config,
            "bind": self.address,
            "signing_key": private,
            "resume": True,
            **flags,
        }
        self.process: BaseProcess

    def start(self, fatal: int | None = None) -> None:
        """Start it; it kills itself before call number `fatal` of fsync and rename.

        What a life before it said last goes first: a new life that has said something also hears a request to end.
        """
        self._status.unlink(missing_ok=True)
        self.process = multiprocessing.get_context("fork").Process(target=self._live, args=(fatal,))
        self.process.start()

    def _live(self, fatal: int | None) -> None:
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        sys.stdout = sys.stderr = open(log, "w", buffering=1)  # noqa: SIM115
        if fatal is not None:
            _kill_at(fatal)
        guard(lambda: serve(**self._flags))

    def kill(self) -> None:
        """Kill it, if it has not done so itself."""
        self.process.kill()
        self.process.join()

    def stop(self) -> int | None:
        """Ask it to end and return its exit code."""
        os.kill(self.process.pid or 0, signal.SIGTERM)
        self.process.join(PATIENCE_S)
        return self.process.exitcode

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition` holds, while it lives."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.is_alive(), f"it ended: {self.log}"
            assert time.monotonic() < deadline_s, f"waited in vain {what}: {self.log}"
            time.sleep(0.01)

    @property
    def log(self) -> str:
        """What it has printed in all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def status(self) -> dict[str, Any]:
        """What it says of itself; empty before it has said anything."""
        found: dict[str, Any] = json.loads(self._status.read_bytes()) if self._status.exists() else {}
        return found


def _kill_at(fatal: int) -> None:
    """Let this process kill itself before call number `fatal` of fsync and rename."""
    done = 0

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            nonlocal done
            done += 1
            if done == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return wrapped

    os.fsync, os.rename = deadly(os.fsync), deadly(os.rename)
