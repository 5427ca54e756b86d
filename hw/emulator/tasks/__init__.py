"""Simulated tasks on the emulated arm, as gymnasium environments; importing this package registers them.

`gymnasium.make("poco.hw.emulator.tasks:poco/PegInHole-v0")` works with every gymnasium; the name without the module needs
`register` to have been called, which the entry point of the group "gymnasium.envs" is for.
"""

from __future__ import annotations

from gymnasium.envs import registration

PEG_IN_HOLE, CUBE = "poco/PegInHole-v0", "poco/Cube-v0"

_ENTRY_POINTS = {
    PEG_IN_HOLE: "poco.hw.emulator.tasks.peg_in_hole_environment:PegInHoleEnvironment",
    CUBE: "poco.hw.emulator.tasks.cube_environment:CubeEnvironment",
}


def register() -> None:
    """Make the tasks known to gymnasium; calling it again changes nothing."""
    for name in _ENTRY_POINTS.keys() - registration.registry.keys():
        registration.register(name, entry_point=_ENTRY_POINTS[name])


register()
