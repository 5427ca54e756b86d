"""What the supervisor hands to the processes it starts, as one JSON file in the run folder."""

from __future__ import annotations

import msgspec

from poco.settings import Settings


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its settings, policy artifact, number of episodes, speed, seed and where its memory and folder are."""

    settings: Settings
    policy: str
    episodes: int
    speed: float
    seed: int
    recover: bool
    run_name: str
    boot_epoch: int
    folder: str
