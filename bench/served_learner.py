"""`poco-learner serve` as a program of its own, for benches: with a signing key and, if there are any, keys of the link."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from poco.learner.publications import PublishSettings
from poco.learner.recipe import read_training_settings
from poco.trust import write_private_key

RECIPE = Path(__file__).parents[1] / "configs" / "cpu" / "peg_in_hole.yaml"
PATIENCE_S = 120.0
LOOK_S = 0.02


class ServedLearner:
    """The learner at `address`; it learns by the packaged recipe with its own ratio of updates."""

    def __init__(
        self, folder: Path, artifact: Path, address: str, keys: Path | None, updates_per_step: float, replay_bytes: int
    ) -> None:
        """Start it; `wait_until` tells when it is there."""
        settings = msgspec.structs.replace(
            read_training_settings(RECIPE),
            updates_per_step=updates_per_step,
            warm_up_steps=0,
            checkpoint_interval=100,
            replay_bytes=replay_bytes,
            publish=PublishSettings(updates=0, interval_s=60.0),
        )
        self.out = folder / "served"
        recipe, private = folder / "recipe.yaml", folder / "learner.key"
        recipe.write_text(yaml.safe_dump(msgspec.to_builtins(settings)))
        write_private_key(private, Ed25519PrivateKey.generate())
        self._log = folder / "served.log"
        words: list[str | Path] = [
            "serve",
            "--artifact",
            artifact,
            "--config",
            recipe,
            "--out",
            self.out,
            "--bind",
            address,
        ]
        words += ["--signing-key", private]
        if keys is not None:
            words += ["--keys", keys]
        with self._log.open("wb") as log:
            program = Path(sys.executable).with_name("poco-learner")
            self.process = subprocess.Popen([program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def status(self) -> dict[str, Any]:
        """What it says of itself, a quarter of a second old at most; empty before it has said anything."""
        file = self.out / "status.json"
        found: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
        return found

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition` holds while it lives; raises RuntimeError with its last words if that does not come."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"waited in vain {what}: {self.status} {self._log.read_text()[-1000:]}")
            time.sleep(LOOK_S)

    def stop(self) -> int:
        """Ask it to end with a checkpoint; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.process.kill()
        self.process.wait()
