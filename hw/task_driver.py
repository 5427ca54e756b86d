"""The task signals of a run as chosen in the settings: where the sensor is read, who says the outcome, who resets the scene.

Addresses: `emulator://HOST[:PORT]` is an emulator's task port; `none` for an outcome or a reset that nobody gives (episodes
then end by their length, objects stay where they are). None of them touches the servo.
"""

from __future__ import annotations

import msgspec

from poco.errors import SettingsError
from poco.records import TaskSignal

from .task_signals import EmulatorSignals

EMULATOR = "emulator://"
NONE = "none"
LOCKSTEP = "lockstep"


class TaskDriver:
    """Sensor, outcome and reset behind one face; blocking, for the policy process only."""

    def __init__(self, sensors: str, outcome: str, reset: str) -> None:
        """Connect to each address once; raises SettingsError for an unknown one and AddressError when nobody answers."""
        if sensors == NONE:
            raise SettingsError(
                "task.sensors is none, but the policy observes the task: give for example emulator://127.0.0.1"
            )
        chosen = {"sensors": sensors, "outcome": outcome, "reset": reset}
        for name, address in chosen.items():
            if address != NONE and not address.startswith(EMULATOR):
                raise SettingsError(f"task.{name} is {address!r}, known are emulator://HOST[:PORT] and none")
        opened = {address: EmulatorSignals(address.removeprefix(EMULATOR)) for address in {*chosen.values()} - {NONE}}
        self._sensors = opened[sensors]
        self._outcome = opened.get(outcome)
        self._reset = opened.get(reset)
        self.lockstep = self._sensors.status().pacing == LOCKSTEP

    def read(self, tick: int) -> TaskSignal:
        """Return what the sensor sees, no older than robot tick `tick`, with the outcome of its own driver."""
        signal = self._sensors.read(tick)
        if self._outcome is self._sensors:
            return signal
        outcome = "running" if self._outcome is None else self._outcome.read(tick).outcome
        return msgspec.structs.replace(signal, outcome=outcome)

    def place(self, seed: int) -> None:
        """Have the objects placed for the next episode as `seed` says, where somebody does."""
        if self._reset is not None:
            self._reset.place(seed)

    def gate(self, tick: int) -> None:
        """Let an emulated arm in lockstep run up to robot tick `tick` and wait there, -1 for no waiting."""
        if self.lockstep:
            self._sensors.gate(tick)
