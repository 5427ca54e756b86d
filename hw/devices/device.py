"""The protocol of everything that hands hold: how far each axis is deflected now, and which commands were given by a button."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from poco.errors import UsageError

Floats = npt.NDArray[np.float64]

Command = Literal["start", "success", "failure", "discard", "relabel", "quit"]
"""What a person says: begin an episode; it is done; it has failed; throw the running or last one away; its outcome was the other
one; end the run."""

AXES = 4
"""Along x, y, z of the base (away from it, to its left, up), and turning about its z, counter-clockwise seen from above."""


def at_rest() -> Floats:
    """Return the deflection [4] of hands that do nothing."""
    return np.zeros(AXES)


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a device: deflection [4] in [-1, 1], the commands since the last look, and in words why it is lost if it is."""

    deflection: Floats = field(default_factory=at_rest)
    commands: tuple[Command, ...] = ()
    lost: str = ""


class Device(Protocol):
    """A device in the policy process; `read` returns at once and never raises: a device that is lost is at rest and says why."""

    def read(self) -> Reading:
        """Return what the hands do now."""
        ...


def missing(what: str, package: str, extra: str) -> UsageError:
    """Return the error that says which package a device needs."""
    return UsageError(f"{what} needs {package}, which is not installed: pip install 'poco-robot[{extra}]'")


def bounded(values: npt.ArrayLike) -> Floats:
    """Return `values` [4] as a deflection: inside [-1, 1], 0 for what is not a number."""
    return np.clip(np.nan_to_num(np.asarray(values, np.float64), posinf=0.0, neginf=0.0), -1.0, 1.0)


def beyond(values: Floats, dead: float) -> Floats:
    """Return `values` in [-1, 1] with those within `dead` of 0 at rest and the others beginning from 0 there."""
    reach = np.maximum(np.abs(values) - dead, 0.0) / (1.0 - dead)
    return np.asarray(np.copysign(reach, values), np.float64)
