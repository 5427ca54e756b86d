"""Hands that are not there: the scripted operator of peg-in-hole holds the device, and presses the buttons that it has."""

from __future__ import annotations

from collections.abc import Callable

from poco.hw.scripted_operator import Operator, Sight
from poco.specification import Specification, unscale

from .device import Command, Device, Reading, bounded

DONE_DEPTH_M = 0.027
"""Where it sees the peg this deep below the rim, it says that the episode has succeeded (the task asks for 0.025 m)."""


class ScriptedHands(Device):
    """Deflects the axes so that the arm does what the operator means to do until the hands are looked at again.

    `specification` says how many control periods lie between two looks (execute_steps); its largest action is full deflection.
    """

    def __init__(
        self, specification: Specification, look: Callable[[], Sight], noise: float, bias_m: float, seed: int
    ) -> None:
        """Let an operator that trembles by `noise` and misjudges the hole by `bias_m` look at `look()`; raises UsageError."""
        self._specification = specification
        self._look = look
        self._operator = Operator(specification, look, noise, bias_m, seed)

    def read(self) -> Reading:
        """Return the mean of what the operator would do in the periods until the next look; it is always ready to start."""
        specification = self._specification
        wanted = self._operator()[: specification.execute_steps].mean(axis=0)
        largest = unscale(specification.action, [1.0] * specification.action_size)
        view = self._look().view
        depth_m = float(self._look().hole_position[2] - view.tip_position[2])
        commands: tuple[Command, ...] = ("start", "success") if depth_m > DONE_DEPTH_M else ("start",)
        return Reading(bounded(unscale(specification.action, wanted) / largest), commands)
