"""State received to command sent: the servo loop against a bare hold loop of the vendor's library, in alternating blocks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from poco.clock import TICKS_PER_SECOND
from poco.errors import ArmError
from poco.runtime.benchmarks.franka_block import KINDS
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome
from poco.runtime.child import Child

START_LIMIT_S = 60.0
WARM_UP_TICKS = 200


def run(host: str, repeats: int, block_s: float, config: Path) -> Outcome:
    """Alternate `repeats` blocks of each loop on an emulated arm that is started at `host`.

    Raises AddressError or ArmError if the emulated arm cannot be started or a loop fails on it.
    """
    ticks = round(block_s * TICKS_PER_SECOND)
    turnaround_us: dict[str, list[Floats]] = {kind: [] for kind in KINDS}
    notes: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--host", host, "--task", "none", "--exit-with-parent", str(os.getpid())]
        emulator = Child("emulator", "poco.hw.emulator", arguments, Path(folder))
        try:
            emulator.wait_for("poco-emulator ready", START_LIMIT_S, lambda: None)
            for _ in range(repeats):
                for kind in KINDS:
                    samples_us, missing = _block(kind, config, host, ticks)
                    turnaround_us[kind].append(samples_us)
                    notes.update(missing)
        finally:
            emulator.end()
    return Outcome(
        "franka",
        f"State received to command sent through pylibfranka at {host}, blocks of {block_s:g} s",
        [Measurement(kind, samples) for kind, samples in turnaround_us.items()],
        [("servo", "bare")],
        [
            "servo is the loop of the servo process: state to record, step(), shared memory, command; bare sends one command again",
            f"both hold the arm; the first {WARM_UP_TICKS} ticks of a block are left out",
            *sorted(notes),
        ],
    )


def _block(kind: str, config: Path, host: str, ticks: int) -> tuple[Floats, list[str]]:
    """Return the turnaround (us) [ticks] of one block in a process of its own, and what it could not have."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as out:
        words = ["--kind", kind, "--config", str(config), "--host", host, "--out", out.name]
        words += ["--ticks", str(ticks + WARM_UP_TICKS)]
        program = [sys.executable, "-m", "poco.runtime.benchmarks.franka_block", *words]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("error: ")
            raise ArmError(f"the {kind} loop failed ({reason})")
        received_ns, sent_ns = np.load(out.name)
    return (sent_ns - received_ns)[WARM_UP_TICKS:] * 1e-3, done.stdout.splitlines()
