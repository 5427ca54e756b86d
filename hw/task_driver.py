"""The task signals of a run as chosen in the settings: where the sensor is read, who says the outcome, who resets the scene.

Addresses: `emulator://HOST[:PORT]` is an emulator's task port; `none` for an outcome or a reset that nobody gives (episodes
then end by their length or by a person's word, objects stay where they are or a person moves them), and for a sensor that nobody
needs. None of them touches the servo.
"""

from __future__ import annotations

import msgspec

from poco.errors import SettingsError
from poco.records import TaskSignal

from .task_signals import EmulatorSignals

EMULATOR = "emulator://"
NONE = "none"
LOCKSTEP = "lockstep"


def check_addresses(sensors: str, outcome: str, reset: str) -> None:
    """Raise SettingsError for an address of a kind that there is not; connects to nothing."""
    for name, address in {"sensors": sensors, "outcome": outcome, "reset": reset}.items():
        if address != NONE and not address.startswith(EMULATOR):
            raise SettingsError(f"task.{name} is {address!r}, known are emulator://HOST[:PORT] and none")


def check_sensor(sensors: str, needed: bool) -> None:
    """Raise SettingsError where there is no sensor though somebody goes by where the target is; connects to nothing."""
    if sensors == NONE and needed:
        raise SettingsError(
            "task.sensors is none, but the target is observed: give for example emulator://127.0.0.1, or a task without it"
        )


class TaskDriver:
    """Sensor, outcome and reset behind one face; blocking, for the policy process only."""

    def __init__(self, sensors: str, outcome: str, reset: str, *, needed: bool = True) -> None:
        """Connect to each address once; raises SettingsError for an unknown one and AddressError when nobody answers.

        `needed` says whether somebody goes by where the sensor sees the target.
        """
        check_sensor(sensors, needed)
        check_addresses(sensors, outcome, reset)
        opened = {
            address: EmulatorSignals(address.removeprefix(EMULATOR)) for address in {sensors, outcome, reset} - {NONE}
        }
        self._sensors = opened.get(sensors)
        self._outcome = opened.get(outcome)
        self._reset = opened.get(reset)
        self.lockstep = self._sensors is not None and self._sensors.status().pacing == LOCKSTEP

    def read(self, tick: int) -> TaskSignal:
        """Return what the sensor sees, no older than robot tick `tick`, with the outcome of its own driver."""
        if self._sensors is not None and self._outcome is self._sensors:
            return self._sensors.read(tick)
        signal = nothing_seen(tick) if self._sensors is None else self._sensors.read(tick)
        outcome = "running" if self._outcome is None else self._outcome.read(tick).outcome
        return msgspec.structs.replace(signal, outcome=outcome)

    def place(self, seed: int) -> None:
        """Have the objects placed for the next episode as `seed` says, where somebody does."""
        if self._reset is not None:
            self._reset.place(seed)

    def gate(self, tick: int) -> None:
        """Let an emulated arm in lockstep run up to robot tick `tick` and wait there, -1 for no waiting."""
        if self._sensors is not None and self.lockstep:
            self._sensors.gate(tick)


def nothing_seen(tick: int) -> TaskSignal:
    """Return the signal of a task without a sensor."""
    return TaskSignal(
        tick=tick, target_position=(0.0, 0.0, 0.0), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
    )
