"""What the supervisor hands to the processes it starts, as one JSON file in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

import poco
from poco.artifact import read_manifest
from poco.clock import TICKS_PER_SECOND
from poco.limits import STEP_MARGINS, fr3_limits
from poco.observation import sees_target, without_target
from poco.settings import Settings
from poco.specification import Specification, read_specification

OPERATOR = "operator"
"""In place of an artifact's folder: the scripted operator of the task that the emulated arm has."""

HANDS = "hands"
"""In place of an artifact's folder: a person's hands on a device."""

WITHOUT_ARTIFACT = (OPERATOR, HANDS)
DeviceName = Literal["keyboard", "gamepad", "spacemouse", "guiding", "scripted"]

OPERATOR_SPECIFICATION = Path(poco.__file__).parent / "configs" / "peg_in_hole_specification.yaml"
CUBE_SPECIFICATION = OPERATOR_SPECIFICATION.with_name("cube_specification.yaml")


class HandsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A person's hands: device, `gain` of a full deflection as a share of the largest action; where they record, the specification
    file of the task, whether what fails is thrown away, and the cameras whose images, `image_side` pixels each way, belong to a
    demonstration; for scripted hands how much they tremble (of the largest action) and by how much they misjudge the hole (m)."""

    task: str = ""
    device: DeviceName
    gain: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    only_successes: bool = False
    cameras: tuple[str, ...] = ()
    image_side: int = 0
    noise: float = 0.0
    bias_m: float = 0.0


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its settings, policy (an artifact's folder, OPERATOR or HANDS), number of episodes, speed, seed, memory, folder, how
    many minutes of ticks to keep at least, whose hands, the artifacts that take turns with the policy in a blind order, and for a
    policy that is told it the task in words."""

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
    hands: HandsOptions | None = None
    against: tuple[str, ...] = ()
    task: str = ""

    @property
    def swaps(self) -> bool:
        """Whether the policy may be replaced while it drives."""
        return self.policy not in WITHOUT_ARTIFACT and not self.against and bool(self.settings.swap.trust)

    @property
    def compiles(self) -> bool:
        """Whether weights of active generations may be compiled in; raises ArtifactError. Any process, before motion."""
        inference, emulator = self.settings.inference, self.settings.emulator
        lockstep = self.settings.robot.kind == "sim" and emulator.pacing == "lockstep"
        wanted = inference.weights == "compiled" or (inference.weights == "measure" and not lockstep)
        able = inference.backend == "onnxruntime-cpu" and self.swaps
        return wanted and able and read_manifest(Path(self.policy)).vla is None

    @property
    def lead_ticks(self) -> int:
        """How far ahead of robot time (ticks) the arm's commands are decided."""
        settings = self.settings
        return round(settings.polymetis.lead_s * TICKS_PER_SECOND) if settings.robot.kind == "polymetis" else 0

    @property
    def guided(self) -> bool:
        """Whether a person leads the arm itself."""
        return self.hands is not None and self.hands.device == "guiding"

    @property
    def goes_by_target(self) -> bool:
        """Whether the scripted operator is at work, who looks at the target whatever a policy observes."""
        return self.policy == OPERATOR or (self.hands is not None and self.hands.device == "scripted")

    @property
    def store(self) -> Path:
        """Folder of the robot's artifacts, the same for all its runs."""
        folder = self.settings.swap.store
        return Path(folder).expanduser() if folder else Path(self.folder).parent / f"store-{self.settings.robot.name}"

    def specification(self) -> Specification:
        """Read what the policy sees and does; raises ArtifactError. Any process, before motion."""
        if self.policy == HANDS and self.hands is not None:
            specification = read_specification(Path(self.hands.task))
            return without_target(specification)[0] if self.hands.cameras else specification
        if self.policy == OPERATOR:
            cube = self.settings.emulator.task == "cube"
            return read_specification(CUBE_SPECIFICATION if cube else OPERATOR_SPECIFICATION)
        return read_manifest(Path(self.policy)).specification

    def hidden(self) -> Specification | None:
        """Return what of the task demonstrations with images show instead of telling it; None without. Raises ArtifactError."""
        if self.hands is None or not self.hands.cameras:
            return None
        return without_target(read_specification(Path(self.hands.task)))[1]

    @property
    def needs_target(self) -> bool:
        """Whether anybody goes by where the task's sensor sees the target; raises ArtifactError."""
        told = filter(None, (self.specification(), self.hidden()))
        return self.goes_by_target or any(map(sees_target, told))

    def step_limits(self) -> npt.NDArray[np.void]:
        """Return the LIMITS record that `step()` keeps to in this run; raises ArtifactError. Any process, before motion."""
        limits = fr3_limits(STEP_MARGINS, self.settings.guards.guards(), self.specification().tip)
        limits["hold_timeout_ticks"] = round(self.settings.servo.hold_timeout_s * TICKS_PER_SECOND)
        return limits

    def cameras(self) -> tuple[str, ...]:
        """Return the cameras that are looked through; raises ArtifactError. Any process, before motion."""
        if self.policy in WITHOUT_ARTIFACT:
            return () if self.hands is None else self.hands.cameras
        return read_manifest(Path(self.policy)).cameras
