"""Hands as an actor: what a device says at an observation tick becomes a short chunk, planned and limited like a policy's.

The chunk moves on for as long as the next look at the device can take and then comes to rest, so an arm whose device, or
whose policy process, has died stops by itself. Policy process only.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from poco.errors import UsageError
from poco.hw.devices.device import Device, Floats, Reading
from poco.hw.devices.gamepad import Gamepad
from poco.hw.devices.keyboard import Keyboard
from poco.hw.devices.scripted import ScriptedHands
from poco.hw.devices.spacemouse import SpaceMouse
from poco.observation import check_sources
from poco.runtime.actors import Actions, Actor, Lookout, Moment
from poco.runtime.person import Person
from poco.runtime.run_options import HandsOptions
from poco.specification import Specification, scale

MOVING = 0.02
"""A deflection beyond this is meant."""

FADING = (1.0, 0.5, 0.25)
"""What of the motion is left in the actions after those that are executed before the next chunk attaches."""


class HandsActor(Actor):
    """Lets a device choose; what is pressed on it is said by `person`, whose keys at the console may be the device."""

    generation = 0
    human = True

    def __init__(
        self,
        specification: Specification,
        options: HandsOptions,
        seed: int,
        person: Person,
        lost: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Open the device; raises UsageError or ArtifactError where it is not to be had or cannot do what `specification` says.

        `lost` hears once why the device is gone.
        """
        if specification.action_space != "tip_delta":
            raise UsageError(
                f"hands move the tip, the actions of {specification.name} are {specification.action_space}: give a task whose "
                "action_space is tip_delta"
            )
        check_sources(specification)
        self._specification, self._gain, self._person = specification, options.gain, person
        self.name, self._lost = options.device, lost
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
        """Look at the device and return what it asks for."""
        return self.chunk_of(self.look(moment))

    def chunk_of(self, reading: Reading) -> Actions:
        """Return the chunk that `reading` asks for."""
        return chunk_of(reading.deflection, self._gain, self.execute_steps, self._specification)


def moves(reading: Reading) -> bool:
    """Tell whether the hands want to move."""
    return bool(np.max(np.abs(reading.deflection)) > MOVING)


def chunk_of(deflection: Floats, gain: float, execute_steps: int, specification: Specification) -> Actions:
    """Return the chunk [chunk_steps, 4] in action units that `deflection` [4] asks for: `gain` times the largest action.

    What follows the actions that are executed before the next chunk attaches fades, then rests.
    """
    low, high = (np.concatenate([getattr(item, end) for item in specification.action]) for end in ("low", "high"))
    wanted = gain * np.where(deflection > 0.0, deflection * high, deflection * -low)
    shares = np.zeros(specification.chunk_steps)
    shares[:execute_steps] = 1.0
    fading = FADING[: specification.chunk_steps - execute_steps]
    shares[execute_steps : execute_steps + len(fading)] = fading
    return np.asarray(scale(specification.action, shares[:, None] * wanted), np.float32)
