"""From a camera's own clock to CLOCK_MONOTONIC of this computer."""

from __future__ import annotations

from dataclasses import dataclass

DRIFT = 2e-4
"""How much faster than the device's this computer's clock may run; crystals are ten times better than that."""


@dataclass(slots=True)
class DeviceClock:
    """Maps device time by the frames that travelled fastest: what a frame was late is not taken for age, and age not for lateness.

    The smallest time from device to arrival so far is the offset, let grow by DRIFT. So a stamp is late by the fastest transfer
    (some ms over USB) and never early by more than the drift. Where device time runs backwards (a reset, a counter that wraps) the
    offset begins anew and `locks` counts it. Where it leaps ahead the very next offset is smaller, and is taken. One process.
    """

    locks: int = 0
    _offset_ns: float = 0.0
    _device_ns: int = 0

    def map(self, device_ns: int, arrival_ns: int) -> int:
        """Return the CLOCK_MONOTONIC (ns) of `device_ns`, the time stamp of a frame that arrived at `arrival_ns`."""
        offset_ns = arrival_ns - device_ns
        if self.locks == 0 or device_ns < self._device_ns:
            self.locks += 1
            self._offset_ns = offset_ns
        else:
            self._offset_ns = min(offset_ns, self._offset_ns + DRIFT * (device_ns - self._device_ns))
        self._device_ns = device_ns
        return device_ns + round(self._offset_ns)
