"""One whole, strict YAML file per robot and task; an unknown key is refused with the nearest known one."""

from __future__ import annotations

import difflib
import math
import re
import reprlib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import yaml

from poco.arm_settings import PolymetisSettings, Positive, RobotSettings
from poco.errors import SettingsError
from poco.limits import Guards

SHOWN = 12
"""So many known words are listed where none is near."""

T = typing.TypeVar("T", bound=msgspec.Struct)


class GuardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cartesian guards of the tool tip (base frame, m, m/s) and bounds on commanded over measured pose (m, rad)."""

    box_min_m: tuple[float, float, float]
    box_max_m: tuple[float, float, float]
    table_z_m: float
    speed_max_m_s: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    lead_max_m: Annotated[float, msgspec.Meta(gt=0.0, le=0.1)]
    lead_max_rad: Annotated[float, msgspec.Meta(gt=0.0, le=0.5)]

    def __post_init__(self) -> None:
        """Refuse a box without room."""
        if not all(low < high for low, high in zip(self.box_min_m, self.box_max_m, strict=True)):
            raise ValueError(
                f"box_min_m is {self.box_min_m}, must lie below box_max_m {self.box_max_m}: swap or widen them"
            )

    def guards(self) -> Guards:
        """Return these bounds as the Guards that `fr3_limits` takes."""
        return Guards(
            self.box_min_m, self.box_max_m, self.table_z_m, self.speed_max_m_s, self.lead_max_m, self.lead_max_rad
        )


class ServoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Patience (s): `hold_timeout_s` an armed hold may last before it latches a fault, `state_age_max_s` a state may be old to act
    on, `orphan_hold_s` the arm is held after the supervisor has died before the motion is ended, `silence_s` the arm may leave a
    command without the next state before it counts as silent, `policy_silence_s` the policy process may give no sign of life before
    it is killed and started again: longer than its slowest inference.

    `emulated_silence_s` takes the place of `silence_s` for an emulated arm in real time, which waits up to 0.1 s for a late
    client and shares its computer; in lockstep the arm waits for the policy and is never silent.
    """

    hold_timeout_s: Positive
    state_age_max_s: Positive
    orphan_hold_s: Positive
    policy_silence_s: Annotated[float, msgspec.Meta(ge=1.0, le=600.0)]
    silence_s: Annotated[float, msgspec.Meta(ge=0.005, le=1.0)]
    emulated_silence_s: Annotated[float, msgspec.Meta(ge=0.005, le=1.0)]


class GripperSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gripper at the arm's own address, used only by a policy whose specification has one.

    It moves with `speed_m_s` and holds with `force_n`. A target below `close_below_m` is a grasp of whatever is there, any other a
    move; the next target counts when it differs by more than `hysteresis_m`. It is told `lead_s` before the tick that the
    target belongs to, opens `start_width_m` before an episode, and a state older than `age_max_s` does not count as known.
    """

    speed_m_s: Annotated[float, msgspec.Meta(gt=0.0, le=0.2)]
    force_n: Annotated[float, msgspec.Meta(gt=0.0, le=140.0)]
    close_below_m: Annotated[float, msgspec.Meta(gt=0.0, le=0.08)]
    hysteresis_m: Annotated[float, msgspec.Meta(gt=0.0, le=0.04)]
    lead_s: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    start_width_m: Annotated[float, msgspec.Meta(gt=0.0, le=0.08)]
    age_max_s: Annotated[float, msgspec.Meta(ge=0.2, le=10.0)]


class TaskSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The task and its signal drivers (`sensors`, `outcome`, `reset`), each an address such as emulator://127.0.0.1."""

    sensors: str
    outcome: str
    reset: str
    episode_steps: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    retract_height_m: Annotated[float, msgspec.Meta(ge=0.0, le=0.5)]


class EmulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `--robot sim` starts the emulated arm; ignored by `--robot franka`."""

    pacing: Literal["realtime", "lockstep", "strict"]
    task: Literal["peg-in-hole", "cube", "none"]
    clearance_mm: Annotated[float, msgspec.Meta(gt=0.0, le=10.0)]
    recovery_delay_s: Annotated[float, msgspec.Meta(ge=0.0, le=60.0)]


class SwapSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new generation must show before and while it drives the arm.

    `trust` is the folder with the root key and the list of publishers (empty: the policy is never replaced), `store` the one of the
    robot's artifacts (empty: store-<robot.name> beside the run folder).
    `shadow_chunks` it is run beside the live one (0: not at all), taking at most `inference_max_s` (s, median) and differing by
    at most `distance_max` (action units, root mean square). Then it drives on trial at `probation_speed`, as soon as the active
    generation has been seen in `baseline_episodes`. It lasts `probation_episodes` (0: none) to `probation_episodes_max`, till its
    share of good episodes is told from `bad_ratio` times the usual one. Not good is an episode that failed or latched a fault,
    with more than `late_max` late chunks or `holds_max` unwanted holds, or with `clip_margin` more chunks slowed down than usual
    (fraction, in shadow too); each of these is compared by itself.
    `generation_span` is how far ahead of the newest generation taken an offer may be, `offer_bytes_max` how large.
    """

    trust: str
    store: str
    shadow_chunks: Annotated[int, msgspec.Meta(ge=0, le=100_000)]
    inference_max_s: Positive
    distance_max: Positive
    baseline_episodes: Annotated[int, msgspec.Meta(ge=0, le=50)]
    probation_episodes: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    probation_episodes_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    probation_speed: Annotated[float, msgspec.Meta(ge=0.05, le=1.0)]
    late_max: Annotated[int, msgspec.Meta(ge=0)]
    holds_max: Annotated[int, msgspec.Meta(ge=0)]
    clip_margin: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    bad_ratio: Annotated[float, msgspec.Meta(ge=0.01, le=0.9)]
    generation_span: Annotated[int, msgspec.Meta(ge=1)]
    offer_bytes_max: Annotated[int, msgspec.Meta(ge=1 << 16)]

    def __post_init__(self) -> None:
        """Refuse a trial that would be over before it has begun to count."""
        if self.probation_episodes_max < self.probation_episodes:
            raise ValueError(
                f"swap.probation_episodes_max is {self.probation_episodes_max} episodes, must be at least probation_episodes, "
                f"which is {self.probation_episodes}"
            )


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The journal of the robot: its folder (empty: beside the run folders), size, and what happens when that is used up.

    `wait`: no new episode begins until there is room; `drop_autonomous`: the oldest episodes without human steps are dropped whole.
    """

    folder: str
    quota_bytes: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 44)]
    when_full: Literal["wait", "drop_autonomous"]


BackendName = Literal["onnxruntime-cpu", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx"]
WeightsChoice = Literal["measure", "inputs", "compiled"]


class InferenceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What computes the policy: `backend`, on the CPU with so many `threads`; another one only if `fall_back` lets the CPU take its
    place where it is not there, or cannot open, run and warm up the policy before motion. `engines` is the folder of what TensorRT
    has built (empty: ~/.cache/poco/engines); with `build_engines` a run builds what is missing before it begins, else it is
    refused. `weights` says whether those of a generation that has become active are compiled in as constants: never (`inputs`),
    always (`compiled`), or where that measures faster on this computer (`measure`; not in lockstep, where a run repeats bit for
    bit)."""

    backend: BackendName
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)]
    fall_back: bool
    engines: str
    build_engines: bool
    weights: WeightsChoice


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way to the learner: its address, such as tcp://127.0.0.1:7766 (empty: none), and the folder of the keys (empty: none)."""

    learner: str
    keys: str


RENDERED, REALSENSE, PLAYBACK = "rendered", "realsense://", "playback://"
"""Where frames come from: the scene of the emulated arm, the camera with a serial number, a recording of such a camera."""


class CameraSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One camera by the `name` a policy knows it by, started only for a policy that sees through it.

    `source` is `rendered`, realsense://SERIAL or playback://SERIAL@FILE.db3; frames have `width` x `height` pixels, `rate_hz` times
    a second, `exposure_us` and `white_balance_k` are fixed (null where the scene is rendered). `crop` is row, column and side of
    the square window that the policy sees (null: the largest in the middle). Older than `age_max_s`, or the same for
    `repeats_max` frames in a row, an image does not count as seen.
    """

    name: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_]{1,32}$")]
    source: str
    width: Annotated[int, msgspec.Meta(ge=16, le=1920)]
    height: Annotated[int, msgspec.Meta(ge=16, le=1200)]
    rate_hz: Annotated[int, msgspec.Meta(ge=1, le=120)]
    crop: tuple[int, int, int] | None
    exposure_us: Annotated[int, msgspec.Meta(ge=1, le=200_000)] | None
    white_balance_k: Annotated[int, msgspec.Meta(ge=2000, le=10_000)] | None
    age_max_s: Annotated[float, msgspec.Meta(gt=0.0, le=5.0)]
    repeats_max: Annotated[int, msgspec.Meta(ge=1, le=1000)]

    def __post_init__(self) -> None:
        """Refuse a source that is none, a real camera that would choose its own exposure, and a bound no stream could keep."""
        if not re.fullmatch(r"rendered|realsense://\w{1,32}|playback://\w{1,32}@.+\.db3", self.source):
            raise ValueError(
                f"source of camera {self.name} is {self.source!r}, known are rendered, realsense://SERIAL and "
                "playback://SERIAL@FILE.db3"
            )
        if self.source.startswith(REALSENSE) and None in (self.exposure_us, self.white_balance_k):
            raise ValueError(
                f"camera {self.name} needs exposure_us and white_balance_k: left to itself it would show another picture every day"
            )
        if self.age_max_s * self.rate_hz < 1.5:
            raise ValueError(
                f"age_max_s of camera {self.name} is {self.age_max_s:g} s at {self.rate_hz} frames a second, must be at least one "
                "and a half frame periods: choose three"
            )

    @property
    def serial(self) -> str:
        """What the frames of this camera say they come from."""
        return self.name if self.source == RENDERED else self.source.partition("://")[2].partition("@")[0]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run needs besides the policy."""

    version: Literal[1]
    robot: RobotSettings
    polymetis: PolymetisSettings
    guards: GuardSettings
    servo: ServoSettings
    task: TaskSettings
    journal: JournalSettings
    link: LinkSettings
    emulator: EmulatorSettings
    inference: InferenceSettings
    swap: SwapSettings
    gripper: GripperSettings
    cameras: tuple[CameraSettings, ...]

    def __post_init__(self) -> None:
        """Refuse two cameras of one name."""
        names = [camera.name for camera in self.cameras]
        if len(set(names)) < len(names):
            raise ValueError(f"cameras {', '.join(names)} must have different names: rename one")


def read_settings(path: Path, overrides: Mapping[str, str]) -> Settings:
    """Read the YAML file at `path`, apply dotted `overrides` (key -> YAML value) and check everything.

    Raises SettingsError with file, key, nearest known key or limit. Any process may call it.
    """
    if not path.is_file():
        lack = "is a folder" if path.is_dir() else "does not exist"
        raise SettingsError(f"settings file {path} {lack}: give --config FILE, see configs/ for whole examples")
    try:
        tree = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is not YAML ({_one_line(error)})") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"settings file {path} must hold a mapping at top level, holds {type(tree).__name__}")
    for key, value in overrides.items():
        _override(tree, key, value)
    return convert_strictly(tree, Settings, str(path), overrides)


def settings_keys() -> list[str]:
    """Return every dotted key a settings file has, for overrides and nearest-match errors."""
    return _keys(Settings, "")


def convert_strictly(tree: object, kind: type[T], where: str, overridden: Collection[str] = ()) -> T:
    """Convert a parsed YAML `tree` to the struct `kind`; raises SettingsError naming `where`, key, value and remedy.

    The `overridden` keys came from the command line, which is named in place of `where` for them.
    """
    _refuse_unknown(tree, kind, where, "")
    try:
        converted = msgspec.convert(tree, kind, strict=False)
    except msgspec.ValidationError as error:
        text = _one_line(error)
        key = text.rpartition(" - at `$.")[2].rstrip("`")
        source = "command line" if key in overridden else where
        raise SettingsError(f"{source}: {_misfit(text, tree, kind)}") from error
    _refuse_not_finite(msgspec.to_builtins(converted), where, "")
    return converted


def nearest(word: str, known: Sequence[str]) -> str:
    """Return "did you mean X?" for the nearest of `known`, or a listing where nothing is near."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known)[:SHOWN])}{more}"


def _keys(kind: type[msgspec.Struct], prefix: str) -> list[str]:
    keys: list[str] = []
    for name, inner in typing.get_type_hints(kind).items():
        struct = _struct(inner)
        keys += _keys(struct, f"{prefix}{name}.") if struct else [prefix + name]
    return keys


def _struct(annotation: object) -> type[msgspec.Struct] | None:
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    for option in options:
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def _misfit(text: str, tree: object, kind: type[msgspec.Struct]) -> str:
    """Return what msgspec says about an entry of `tree`, to become a `kind`, as key, value and what it must be."""
    match = re.fullmatch(r"(?:Expected (.+?)(?:, got .*)?|Invalid enum value .*) - at `\$\.([\w.]+)`", text)
    if match is None:
        return text
    value, hint = tree, cast(object, kind)
    for name in match[2].split("."):
        value = value.get(name) if isinstance(value, dict) else None
        struct = _struct(hint)
        hint = typing.get_type_hints(struct)[name] if struct else None
    wanted = match[1].replace("`", "") if match[1] else f"one of {', '.join(map(str, typing.get_args(hint)))}"
    return f"{match[2]} is {reprlib.repr(value)}, must be {wanted}: change it"


def _refuse_unknown(tree: object, kind: type[msgspec.Struct], where: str, prefix: str) -> None:
    if not isinstance(tree, dict):
        raise SettingsError(f"{where}: {prefix.rstrip('.') or 'top level'} must be a mapping, is {tree!r}")
    hints = typing.get_type_hints(kind)
    for key, value in tree.items():
        if key not in hints:
            raise SettingsError(f"{where}: unknown key {prefix}{_one_line(key)}; {nearest(str(key), list(hints))}")
        struct = _struct(hints[key])
        if struct is not None:
            _refuse_unknown(value, struct, where, f"{prefix}{key}.")
    required = [field.name for field in msgspec.structs.fields(kind) if field.required]
    missing = [name for name in required if name not in tree]
    if missing:
        raise SettingsError(f"{where}: key {prefix}{missing[0]} is missing; such a file is whole, see configs/")


def _refuse_not_finite(value: object, where: str, key: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{where}: {key} is {value}, must be finite: give a number")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_not_finite(inner, where, f"{key}.{name}".lstrip("."))
    if isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _refuse_not_finite(inner, where, f"{key}[{number}]")


def _override(tree: dict[str, Any], key: str, value: str) -> None:
    if key not in settings_keys():
        raise SettingsError(f"unknown setting --{key}; {nearest(key, settings_keys())}")
    *folders, leaf = key.split(".")
    for folder in folders:
        tree = tree.setdefault(folder, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"--{key}: {folder} must be a mapping in the settings file, is {tree!r}; see configs/")
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError(f"value {value!r} of --{key} is not YAML ({_one_line(error)})") from error


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
