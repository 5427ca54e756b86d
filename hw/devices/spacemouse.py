"""A SpaceMouse as a device, read through hidapi without any driver of its maker.

Its reports, as public drivers describe them: 1 holds x, y, z and on some models the three turns behind them, 2 the turns, 3 the
buttons; 16-bit signed, little-endian, about 350 at full deflection; x to the right, y towards the person, z down.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from poco.errors import UsageError

from .device import Command, Device, Floats, Reading, at_rest, beyond, bounded, missing

VENDORS = (0x256F, 0x046D)
"""3Dconnexion, and Logitech, under which older ones were sold (PRODUCTS)."""

PRODUCTS = range(0xC603, 0xC670)
FULL = 350.0
DEAD = 0.06
REPORT_BYTES = 64
REPORTS_MAX = 64
"""More than a device sends between two looks."""

TRANSLATION, ROTATION, BUTTONS = 1, 2, 3
LEFT, RIGHT = 0b01, 0b10
PRESSED: dict[int, Command] = {LEFT: "start", RIGHT: "discard"}


class HidDevice(Protocol):
    """What is used of hidapi's `hid.device`."""

    def read(self, max_length: int) -> list[int]:
        """Return the bytes of the next report, none if there is none; raises OSError when the device is gone."""

    def close(self) -> None:
        """Give the device back."""


class Reports:
    """What a SpaceMouse has reported so far: the newest deflection [4], and the buttons pressed since they were taken."""

    def __init__(self) -> None:
        self._move, self._turn = np.zeros(3), 0.0
        self._held = 0
        self._commands: list[Command] = []

    def take(self, report: bytes) -> None:
        """Take one report; one that is none of those known, or too short, changes nothing."""
        kind, body = report[0] if report else 0, report[1:]
        if kind == TRANSLATION and len(body) >= 6:
            x, y, z = struct.unpack_from("<3h", body)
            self._move = np.array([-y, -x, -z]) / FULL
            if len(body) >= 12:
                self._turn = -struct.unpack_from("<h", body, 10)[0] / FULL
        elif kind == ROTATION and len(body) >= 6:
            self._turn = -struct.unpack_from("<h", body, 4)[0] / FULL
        elif kind == BUTTONS and body:
            pressed = body[0] & ~self._held
            self._held = body[0]
            self._commands += [command for button, command in PRESSED.items() if pressed & button]

    @property
    def deflection(self) -> Floats:
        """What the cap is deflected by now, without what a resting hand does."""
        return beyond(bounded([*self._move, self._turn]), DEAD)

    def commands(self) -> tuple[Command, ...]:
        """Return the commands given since the last call."""
        commands, self._commands = tuple(self._commands), []
        return commands


class SpaceMouse(Device):
    """The first SpaceMouse that is plugged in; policy process only."""

    def __init__(self, opened: HidDevice | None = None) -> None:
        """Open it; raises UsageError if hidapi is not installed or no SpaceMouse is there, or may be read."""
        self._device = opened or _open()
        self._reports = Reports()
        self._lost = ""

    def read(self) -> Reading:
        """Take all reports that have come; one that was unplugged is at rest from then on."""
        if self._lost:
            return Reading(lost=self._lost)
        try:
            for _ in range(REPORTS_MAX):
                if not (report := self._device.read(REPORT_BYTES)):
                    break
                self._reports.take(bytes(report))
        except (OSError, ValueError) as error:
            self._lost = f"the SpaceMouse is gone ({error})"
            return Reading(at_rest(), lost=self._lost)
        return Reading(self._reports.deflection, self._reports.commands())

    def close(self) -> None:
        """Give it back, so that another process can have it."""
        self._device.close()


def unreadable(listed: Mapping[str, Any], error: OSError) -> UsageError:
    """Return what to do about a SpaceMouse that hidapi has `listed` and may not open."""
    rule = f'KERNEL=="hidraw*", ATTRS{{idVendor}}=="{listed["vendor_id"]:04x}", MODE="0660", GROUP="plugdev"'
    return UsageError(
        f"the SpaceMouse {listed['product_string']} may not be read ({os.fsdecode(listed['path'])}: {error}): let your user, by a "
        f"rule of udev such as {rule}"
    )


def _open() -> HidDevice:
    try:
        import hid
    except ImportError as error:
        raise missing("a SpaceMouse", "hidapi", "spacemouse") from error
    found = [one for vendor in VENDORS for one in hid.enumerate(vendor, 0) if one["product_id"] in PRODUCTS]
    if not found:
        raise UsageError("no SpaceMouse is plugged in: plug it in, or its receiver, or choose other --hands")
    device: Any = hid.device()
    try:
        device.open_path(found[0]["path"])
        device.set_nonblocking(1)
    except OSError as error:
        raise unreadable(found[0], error) from error
    opened: HidDevice = device
    return opened
