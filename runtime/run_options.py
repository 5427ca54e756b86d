"""What the supervisor hands to the processes it starts, as one JSON file in the run folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

import poco
from poco.artifact import read_artifact
from poco.settings import Settings
from poco.specification import Specification, read_specification

OPERATOR = "operator"
"""In place of an artifact's folder: the scripted operator of peg-in-hole."""

OPERATOR_SPECIFICATION = Path(poco.__file__).parent / "configs" / "peg_in_hole_specification.yaml"


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its settings, policy (an artifact's folder or OPERATOR), number of episodes, speed, seed, memory, folder and
    how many minutes of ticks to keep at least."""

    settings: Settings
    policy: str
    episodes: int
    speed: float
    seed: int
    recover: bool
    run_name: str
    boot_epoch: int
    folder: str
    keep_minutes: int

    @property
    def swaps(self) -> bool:
        """Whether the policy may be replaced while it drives."""
        return self.policy != OPERATOR and bool(self.settings.swap.trust)

    @property
    def store(self) -> Path:
        """Folder of the robot's artifacts, the same for all its runs."""
        folder = self.settings.swap.store
        return Path(folder).expanduser() if folder else Path(self.folder).parent / f"store-{self.settings.robot.name}"

    def specification(self) -> Specification:
        """Read what the policy sees and does; raises ArtifactError. Any process, before motion."""
        if self.policy == OPERATOR:
            return read_specification(OPERATOR_SPECIFICATION)
        return read_artifact(Path(self.policy)).specification
