"""Hands as an actor: what a device says at an observation tick becomes a short chunk, planned and limited like a policy's.

The chunk moves on for as long as the next look at the device can take and then comes to rest, so an arm whose device, or
whose policy process, has died stops by itself. Policy process only.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from poco.errors import UsageError
from poco.hw.devices.device import Device, Reading
from poco.hw.devices.gamepad import Gamepad
from poco.hw.devices.keyboard import Keyboard
from poco.hw.devices.scripted import ScriptedHands
from poco.hw.devices.spacemouse import SpaceMouse
from poco.observation import check_sources
from poco.runtime.actors import Actions, Actor, ChunkFigures, Lookout, Moment
from poco.runtime.hand_chunks import HandChunks
from poco.runtime.person import Person
from poco.runtime.run_options import DeviceName, HandsOptions
from poco.specification import Specification

MOVING = 0.02
"""A deflection beyond this is meant."""


def check_device(name: DeviceName) -> None:
    """Open a gamepad or SpaceMouse and give it back, before a run starts the process that reads it; raises UsageError."""
    match name:
        case "gamepad":
            Gamepad().close()
        case "spacemouse":
            SpaceMouse().close()


def check_able(name: DeviceName, specification: Specification) -> None:
    """Raise UsageError where the device cannot do what `specification` says."""
    if name == "scripted" and specification.action_space != "tip_delta":
        raise UsageError(
            f"scripted hands make tip deltas, the actions of {specification.name} are {specification.action_space}: choose "
            "other --hands"
        )
    if specification.grips:
        raise UsageError(f"hands move the arm alone so far, {specification.name} has a gripper: choose another task")


class HandsActor(Actor):
    """Lets a device choose; what is pressed on it is said by `person`, whose keys at the console may be the device."""

    generation = 0
    human = True

    def __init__(
        self,
        specification: Specification,
        limits: npt.NDArray[np.void],
        options: HandsOptions,
        seed: int,
        person: Person,
        lost: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Open the device; raises UsageError or ArtifactError where it is not to be had or cannot do what `specification` says.

        `lost` hears once why the device is gone.
        """
        check_able(options.device, specification)
        check_sources(specification)
        self._specification, self._person = specification, person
        self.name, self._lost = options.device, lost
        self._chunks = HandChunks(specification, limits, options.gain, self.execute_steps)
        self._newest: Moment | None = None
        self._interrupted = False
        self._lookout = Lookout(specification)
        self.device = self._open(options, seed)
        self.reading = Reading()

    def _open(self, options: HandsOptions, seed: int) -> Device:
        match options.device:
            case "keyboard":
                return Keyboard(self._person.keys)
            case "gamepad":
                return Gamepad()
            case "spacemouse":
                return SpaceMouse()
        cadence = msgspec.structs.replace(self._specification, execute_steps=self.execute_steps)
        return ScriptedHands(cadence, lambda: self._lookout.sight, options.noise, options.bias_m, seed)

    @property
    def specification(self) -> Specification:
        """That of the task."""
        return self._specification

    @property
    def execute_steps(self) -> int:
        """As few as the delay allows: hands are looked at as often as can be."""
        return min(self._specification.delay_steps + 1, self._specification.chunk_steps)

    @property
    def labels(self) -> dict[str, str]:
        """A demonstration, and on what."""
        return {"demonstration": self.name}

    def look(self, moment: Moment) -> Reading:
        """Look at the scene and at the device."""
        self._lookout.look(moment)
        return self.glance()

    def glance(self) -> Reading:
        """Look at the device and pass on what was pressed."""
        before, self.reading = self.reading, self.device.read()
        if self.reading.lost and not before.lost:
            self._lost(self.reading.lost)
        self._person.say(self.reading.commands)
        return self.reading

    def choose(self, moment: Moment) -> Actions:
        """Look at the device and return what it asks for; the press of a key that began the episode counts in its first chunk."""
        begun, reading = self.reading, self.look(moment)
        if moment.chunk == 0 and moves(begun) and not moves(reading):
            reading = begun
        return self.answer(moment, reading)

    def answer(self, moment: Moment, reading: Reading) -> Actions:
        """Return the chunk that `reading` asks for."""
        before, self._newest = self._newest, moment
        next_one = before is not None and (before.episode, before.chunk + 1) == (moment.episode, moment.chunk)
        return self._chunks.make(reading.deflection, moment.state["q_c"], next_one and not self._interrupted)

    def chunk(self, figures: ChunkFigures) -> None:
        """Take in whether the arm was brought to rest in the chunk chosen last."""
        self._interrupted = figures.interrupted


def moves(reading: Reading) -> bool:
    """Tell whether the hands want to move."""
    return bool(np.max(np.abs(reading.deflection)) > MOVING)
