"""Faults that an emulated arm can be told to suffer: typed, seeded, read from a file or sent through its task port."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from poco.errors import SettingsError

Datagrams = Literal["states", "commands"]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Ticks = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
ReflexName = Literal[
    "joint_reflex",
    "cartesian_reflex",
    "joint_motion_generator_velocity_discontinuity",
    "joint_motion_generator_acceleration_discontinuity",
    "communication_constraints_violation",
    "power_limit_violation",
]


class _Fault(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    pass


class Drop(_Fault, frozen=True, kw_only=True, tag="drop"):
    """The next `count` datagrams in a row are lost."""

    what: Datagrams
    count: Count = 1


class Delay(_Fault, frozen=True, kw_only=True, tag="delay"):
    """The next `count` datagrams arrive `ticks` later, in order."""

    what: Datagrams
    ticks: Ticks
    count: Count = 1


class Reorder(_Fault, frozen=True, kw_only=True, tag="reorder"):
    """Each of the next `count` datagrams arrives after its successor."""

    what: Datagrams
    count: Count = 1


class Stall(_Fault, frozen=True, kw_only=True, tag="stall"):
    """The emulator stands still for `milliseconds` of the wall clock, sockets included."""

    milliseconds: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Silence(_Fault, frozen=True, kw_only=True, tag="silence"):
    """No state leaves the arm for `ticks`, while its TCP connection lives."""

    ticks: Ticks


class Reflex(_Fault, frozen=True, kw_only=True, tag="reflex"):
    """The arm stops itself with the flag `error`, by its vendor's name."""

    error: ReflexName


class UserStop(_Fault, frozen=True, kw_only=True, tag="user_stop"):
    """The user stop is pressed, or released."""

    pressed: bool = True


class NotFinite(_Fault, frozen=True, kw_only=True, tag="not_finite"):
    """`field` of the next `count` states holds NaN."""

    field: Literal["q", "dq", "q_d", "dq_d", "ddq_d", "tau_J"]
    count: Count = 1


class StaleAfterRecovery(_Fault, frozen=True, kw_only=True, tag="stale_after_recovery"):
    """After the next recovery the first `count` states still say Reflex."""

    count: Count = 1


class SecondClient(_Fault, frozen=True, kw_only=True, tag="second_client"):
    """Somebody else connects to the arm and tries to speak to it for 0.1 s; an arm without a client is theirs for so long."""


class Push(_Fault, frozen=True, kw_only=True, tag="push"):
    """Somebody pushes at the end effector with `force_n` (N, base frame) for `ticks`."""

    force_n: tuple[float, float, float]
    ticks: Ticks


Fault = (
    Drop | Delay | Reorder | Stall | Silence | Reflex | UserStop | NotFinite | StaleAfterRecovery | SecondClient | Push
)


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault and when: once `at` ticks after the first motion began, or in each tick of a motion with probability `rate`."""

    fault: Fault
    at: Annotated[int, msgspec.Meta(ge=0)] | None = None
    rate: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] | None = None

    def __post_init__(self) -> None:
        if (self.at is None) == (self.rate is None):
            raise ValueError("give either `at` (ticks) or `rate` (probability in each tick)")


class FaultScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to the arm and when; `seed` decides the random part."""

    version: Literal[1]
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    faults: tuple[Entry, ...] = ()


def read_fault_script(path: Path) -> FaultScript:
    """Read the YAML (or JSON) script at `path`; raises SettingsError with file, place and remedy. Any process may call it."""
    try:
        return msgspec.convert(yaml.safe_load(path.read_text()), FaultScript)
    except OSError as error:
        raise SettingsError(f"fault script {path} cannot be read ({error.strerror}): see docs/faults.md") from error
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        sentence = " ".join(str(error).split())
        raise SettingsError(
            f"fault script {path}: {sentence}; see docs/faults.md for what a script may hold"
        ) from error
