"""A gamepad as a device: left stick moves, right stick lifts and turns, the shoulder buttons make it fine, buttons are commands.

SDL, through pygame, knows where the sticks of the common pads are, so one layout serves all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from poco.errors import UsageError

from .device import Command, Device, Floats, Reading, beyond, missing

FULL = 32_767.0
DEAD = 0.12
FINE = 0.25
"""Share of the deflection while a shoulder button is held."""

STICKS = ("LEFTY", "LEFTX", "RIGHTY", "RIGHTX")
"""SDL's names of the axes that move along x, y, z and turn; pushed away or to the left they are negative."""

INPUT_DEVICES, INPUT_FILES = Path("/proc/bus/input/devices"), Path("/dev/input")
"""What the kernel says is plugged in, and where it can be read."""

READ_RULE = 'KERNEL=="event*", ENV{ID_INPUT_JOYSTICK}=="1", MODE="0660", GROUP="plugdev"'
"""Of udev: whoever is in that group may read every gamepad."""

SHOULDERS = ("LEFTSHOULDER", "RIGHTSHOULDER")
PRESSED: dict[str, Command] = {
    "START": "start",
    "A": "success",
    "B": "failure",
    "X": "discard",
    "Y": "relabel",
    "BACK": "quit",
}
"""SDL's names of the buttons, those of an Xbox pad: A is the lowest of the four, B the right, X the left, Y the upper one."""


def deflection_of(sticks: Mapping[str, int], fine: bool) -> Floats:
    """Return the deflection [4] of the axes `sticks` (-32768 to 32767), of a quarter the size if `fine`."""
    pushed = np.clip(np.array([-sticks[name] for name in STICKS]) / FULL, -1.0, 1.0)
    return beyond(pushed, DEAD) * (FINE if fine else 1.0)


def missing_pad(input_devices: str) -> UsageError:
    """Return why SDL sees no pad where the kernel lists `input_devices`: none is there, may be read, or is known to SDL."""
    for entry in input_devices.split("\n\n"):
        name, files = re.search(r'^N: Name="(.*)"$', entry, re.M), re.search(r"^H: Handlers=(.*js\d.*)$", entry, re.M)
        event = re.search(r"\bevent\d+\b", files[1]) if files else None
        if name is None or event is None:
            continue
        file = INPUT_FILES / event[0]
        if not os.access(file, os.R_OK):
            return UsageError(
                f"the gamepad {name[1]} may not be read ({file}): let your user, by a rule of udev such as {READ_RULE}"
            )
        return UsageError(
            f"the gamepad {name[1]} is none that SDL knows: describe it in SDL_GAMECONTROLLERCONFIG, or choose another"
        )
    return UsageError("no gamepad is plugged in: plug one in, or choose other --hands")


class Gamepad(Device):
    """The first pad that SDL knows; policy process only."""

    def __init__(self) -> None:
        """Open it; raises UsageError if pygame is not installed or no pad is there."""
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
        os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
        try:
            import pygame
            from pygame._sdl2 import controller
        except ImportError as error:
            raise missing("a gamepad", "pygame", "gamepad") from error
        self._pygame = pygame
        pygame.display.init()
        controller.init()
        known = [number for number in range(controller.get_count()) if controller.is_controller(number)]
        if not known:
            raise missing_pad(INPUT_DEVICES.read_text() if INPUT_DEVICES.is_file() else "")
        self._pad: Any = controller.Controller(known[0])
        self._controller = controller
        self._held: set[str] = set()

    def read(self) -> Reading:
        """Return where the sticks are and which buttons have been pressed since the last look; one that is gone is at rest."""
        try:
            self._pygame.event.pump()
            if not self._pad.attached():
                return Reading(lost="the gamepad is gone")
            sticks = {name: self._pad.get_axis(getattr(self._pygame, f"CONTROLLER_AXIS_{name}")) for name in STICKS}
            held = {name for name in (*SHOULDERS, *PRESSED) if self._holds(name)}
        except self._pygame.error as error:
            return Reading(lost=f"the gamepad is gone ({error})")
        fresh, self._held = held - self._held, held
        commands = tuple(command for name, command in PRESSED.items() if name in fresh)
        return Reading(deflection_of(sticks, fine=bool(held.intersection(SHOULDERS))), commands)

    def close(self) -> None:
        """Give it back, so that another process can have it."""
        self._pad.quit()
        self._controller.quit()
        self._pygame.display.quit()

    def _holds(self, button: str) -> bool:
        return bool(self._pad.get_button(getattr(self._pygame, f"CONTROLLER_BUTTON_{button}")))
