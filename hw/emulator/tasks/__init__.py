"""Simulated tasks on the emulated arm, as gymnasium environments; importing this package registers them.

`gymnasium.make("poco.hw.emulator.tasks:poco/PegInHole-v0")` works with every gymnasium; the name without the module needs
`register` to have been called, which the entry point of the group "gymnasium.envs" is for.
"""

from __future__ import annotations

from gymnasium.envs import registration

PEG_IN_HOLE = "poco/PegInHole-v0"


def register() -> None:
    """Make the tasks known to gymnasium; calling it again changes nothing."""
    if PEG_IN_HOLE not in registration.registry:
        registration.register(PEG_IN_HOLE, entry_point="poco.hw.emulator.tasks.environment:PegInHoleEnvironment")


register()
