"""Servo modes, requests and the three grades of trouble, read from the native table in `hw/native/trouble.hpp`.

`python -m poco.trouble` prints the tables of docs/servo.md. Any process may use this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from poco import _core


class Mode(IntEnum):
    """What the servo is doing; `MODE_MEANINGS` says it in words."""

    DISARMED = 0
    HOLDING = 1
    FOLLOWING = 2
    BRAKING = 3
    FAULT = 4
    FINISHED = 5
    LED = 6


class Request(IntEnum):
    """What the servo is asked to do: ORPHANED is its own conclusion when the supervisor's heartbeat is missing."""

    DISARMED = 0
    ARMED = 1
    STOP = 2
    ORPHANED = 3


class Grade(Enum):
    """DROPPED: counted. HOLDING: brake and hold, the next valid chunk resumes. LATCHED: brake, only an operator recovers."""

    DROPPED = "dropped"
    HOLDING = "holding"
    LATCHED = "latched"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One row of the table; `code` is what Command.event, Command.fault and the event counters use."""

    code: int
    name: str
    grade: Grade
    meaning: str
    remedy: str


MODE_MEANINGS = {Mode[name.upper()]: meaning for code, name, meaning in _core.mode_table()}
TROUBLES = {code: Trouble(code, name, Grade(grade), *words) for code, name, grade, *words in _core.trouble_table()}
BY_NAME = {trouble.name: trouble for trouble in TROUBLES.values()}


def describe(code: int) -> str:
    """Return one sentence with meaning and remedy of `code`; 0 is no trouble. Raises KeyError for an unknown code."""
    if code == 0:
        return "no trouble"
    trouble = TROUBLES[code]
    return f"{trouble.name} ({trouble.grade.value}): {trouble.meaning}; {trouble.remedy}"


def markdown() -> str:
    """Return the tables of modes and troubles as they stand in docs/servo.md."""
    modes = [f"| {mode.value} | `{mode.name.lower()}` | {meaning} |" for mode, meaning in MODE_MEANINGS.items()]
    troubles = [
        f"| {trouble.code} | `{trouble.name}` | {trouble.grade.value} | {trouble.meaning} | {trouble.remedy} |"
        for trouble in TROUBLES.values()
    ]
    return "\n".join(
        [
            "| code | mode | the servo |",
            "|---|---|---|",
            *modes,
            "",
            "| code | trouble | grade | meaning | remedy |",
            "|---|---|---|---|---|",
            *troubles,
        ]
    )


if __name__ == "__main__":
    print(markdown())
