"""What an artifact says of a vision-language-action policy beside its graphs: prompt, cameras, normalisation, schedule, origin.

Such a policy has the graphs `prefix` (what is seen and told, once a chunk), `step` (velocity of the chunk on its way from noise)
and possibly `chunk` (all steps in one). Numbers are computed from these rules in `poco.vla_numbers`.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from poco.errors import ArtifactError

PREFIX, STEP, CHUNK = "prefix", "step", "chunk"
"""Names of the graphs."""

PIXELS, IMAGE_MASK, TOKENS, TOKEN_MASK = "pixels", "image_mask", "tokens", "token_mask"
SAMPLE, TIME = "sample", "time"
VLA_SOURCES = (PIXELS, IMAGE_MASK, TOKENS, TOKEN_MASK, SAMPLE, TIME)
"""Sources of graph inputs that only such a policy has.

pixels f32 [C, 3, H, W] in -1 ... 1, image_mask bool [C], tokens i64 [1, L], token_mask bool [1, L], sample f32 [1, T, W] (the
chunk under way), time f32 [1]. Its `state` is f32 [1, W], normalised and padded, its `noise` f32 [1, T, W].
"""

PolicyType = Literal["smolvla", "pi0", "pi05", "groot"]
Precision = Literal["fp32", "fp16"]
Numbers = Annotated[tuple[float, ...], msgspec.Meta(max_length=256)]

STATISTICS = {
    "identity": (),
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "quantiles": ("q01", "q99"),
    "quantile10": ("q10", "q90"),
}
"""What each mode of normalisation needs to know."""


class Normalisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a vector of `size` true elements is normalised; `statistics` holds what its mode needs, in the policy's own units."""

    mode: Literal["identity", "mean_std", "min_max", "quantiles", "quantile10"]
    size: int
    statistics: dict[str, Numbers] = {}

    def __post_init__(self) -> None:
        """Refuse statistics that are missing, of a wrong length or not finite."""
        for name in STATISTICS[self.mode]:
            values = self.statistics.get(name, ())
            if len(values) != self.size or not all(math.isfinite(value) for value in values):
                raise ArtifactError(
                    f"normalisation {self.mode} needs {self.size} finite numbers of {name}, has {len(values)}: save the checkpoint "
                    "with the statistics of its data"
                )
        if set(self.statistics) != set(STATISTICS[self.mode]):
            raise ArtifactError(
                f"normalisation {self.mode} has the statistics {sorted(self.statistics)}: export it again"
            )


class Prompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a task becomes `length` tokens: "task" is the task and a newline, "task_and_state" holds the state in 256 bins as well.

    `tokenizer` is the file of the tokenizer in the artifact, padded on the right with `pad_id`.
    """

    template: Literal["task", "task_and_state"]
    length: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    pad_id: Annotated[int, msgspec.Meta(ge=0)]
    tokenizer: str
    tokenizer_sha256: str


class VlaCamera(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One image of the policy: the robot's `camera` (None: never there, masked off), the checkpoint's `key`, size in pixels.

    The frame is resized with its proportions kept (bilinear between pixel centres, no antialiasing) and padded to
    `height` x `width` with the value 0 of 0 ... 1, on the left and top or on all sides; then 0 ... 1 becomes -1 ... 1. An image
    that is not there is -1 everywhere, with its mask false.
    """

    camera: str | None
    key: str
    height: Annotated[int, msgspec.Meta(ge=8, le=4096)]
    width: Annotated[int, msgspec.Meta(ge=8, le=4096)]
    padding: Literal["left_top", "centred"]


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From noise to actions in equal Euler steps: time from `start` to `end`, the sample by velocity * (end - start) / steps."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    start: float
    end: float


class VisionPositions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which position ids the image patches have: asked for, and what the library's version was found to give."""

    asked: Literal["auto", "raster", "shifted"]
    found: Literal["raster", "shifted", "none"]


class ParityCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Largest difference from the library's own actions, relative to their range, for one prompt and one set of cameras."""

    prompt_tokens: int
    masked: str | None
    error: float


class Parity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exporter measured against the library: every case, the limit, and how far flipping each input moves the actions."""

    cases: tuple[ParityCase, ...]
    tolerance: float
    sensitivity: dict[str, float]

    @property
    def error(self) -> float:
        """The largest error of all cases."""
        return max(case.error for case in self.cases)


class Vla(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a vision-language-action policy that its graphs do not hold.

    The state is what the specification observes, in physical units, normalised and padded with zeros to `width`; its actions
    [T, width] are cut to the action's size and un-normalised to the physical units of the specification. `first_action` is the
    place in the model's chunk of the first action of the specification's chunk. Where `relative` is true an action is an offset
    from the state element of the same place (in physical units, of the same observation); empty for a policy without such.
    `golden_tasks` are the tasks of the golden cases, one each. `frozen_sha256` names the checkpoint's tensors that do not learn:
    an expert trained beside others does not belong here, however its tensors are named.
    """

    type: PolicyType
    frozen_sha256: str
    prompt: Prompt
    cameras: tuple[VlaCamera, ...]
    state: Normalisation
    action: Normalisation
    width: Annotated[int, msgspec.Meta(ge=1, le=256)]
    chunk_length: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    first_action: Annotated[int, msgspec.Meta(ge=0)]
    schedule: Schedule
    versions: dict[str, str]
    vision_positions: VisionPositions
    precision: Precision
    golden_tasks: tuple[str, ...]
    relative: tuple[bool, ...] = ()
    parity: Parity | None = None

    def __post_init__(self) -> None:
        """Refuse rules that contradict each other."""
        if max(self.state.size, self.action.size) > self.width:
            raise ArtifactError(
                f"state and action have {self.state.size} and {self.action.size} elements, the policy is {self.width} wide: "
                "export it again"
            )
        if len({(item.height, item.width) for item in self.cameras}) > 1:
            raise ArtifactError("the images of the policy differ in size, they must all be as large: export it again")
        if self.relative and len(self.relative) != self.action.size:
            raise ArtifactError(
                f"{len(self.relative)} elements are said to be relative or not, an action has {self.action.size}: export it again"
            )
        if any(self.relative[self.state.size :]):
            raise ArtifactError(
                f"an action beyond element {self.state.size} is relative to a state that is not there: export it again"
            )

    @property
    def cameras_used(self) -> tuple[str, ...]:
        """Names of the robot's cameras that the policy looks through, in the order of its images."""
        return tuple(item.camera for item in self.cameras if item.camera is not None)

    @property
    def rules(self) -> Vla:
        """What decides how it is run, without what was found out at export; generations that share it share a session."""
        return msgspec.structs.replace(self, golden_tasks=(), parity=None, versions={})
