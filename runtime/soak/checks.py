"""Whether a soak passed: each criterion in a sentence."""

from __future__ import annotations

import msgspec

from poco.runtime.soak.figures import SoakFigures
from poco.trouble import BY_NAME, describe

GROWTH_MAX_KIB_H = 2048.0
"""Memory is flat if even the upper end of the 95 % interval of its slope lies below this: a day adds at most 48 MiB.

It is flat too if its highest value rises no faster than this from the first half of the soak to the second: the journal's writer
keeps the newest segment in memory and begins anew with every segment.
"""

JUDGED_FROM_MIN = 10.0
"""Of a shorter soak the second half says too little about an hour."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One criterion; `passed` is null where the soak was too short to tell."""

    name: str
    passed: bool | None
    said: str


def check(figures: SoakFigures, reflexes_per_100: float, ended: str) -> list[Check]:
    """Return every check; `ended` says in a sentence why the run ended before it was asked to, empty if it did not."""
    allowed = reflexes_per_100 * figures.episodes / 100.0
    others = faults_without_reflex(figures)
    restarted = [f"{name} {item.starts - 1}" for name, item in figures.processes.items() if item.starts > 1]
    count = len(figures.reflexes)
    return [
        Check(name="ended", passed=not ended, said=ended or "the run went on until it was asked to stop, and braked"),
        Check(
            name="episodes", passed=figures.episodes > 0, said=f"{figures.successes} of {figures.episodes} succeeded"
        ),
        Check(
            name="reflexes",
            passed=count <= allowed,
            said=f"{count} in {figures.episodes} episodes, {allowed:g} allowed",
        ),
        Check(name="faults", passed=not others, said="; ".join(others) or "none but those of a reflex"),
        Check(name="restarts", passed=not restarted, said=", ".join(restarted) or "none"),
        memory(figures),
        handles(figures),
    ]


def memory(figures: SoakFigures) -> Check:
    """Check that the resident memory of no process grows."""
    grown = {name: item.memory["rss_kib"] for name, item in figures.processes.items()}
    said = ", ".join(f"{name} {item.slope}, peak {item.rise:+.0f} KiB" for name, item in grown.items() if item.slope)
    known = figures.watched_min >= JUDGED_FROM_MIN
    rise_max_kib = GROWTH_MAX_KIB_H * figures.watched_min / 120.0
    flat = all(
        item.slope is None or item.slope.high <= GROWTH_MAX_KIB_H or item.rise <= rise_max_kib
        for item in grown.values()
    )
    return Check(
        name="memory",
        passed=flat if known else None,
        said=f"KiB/h of resident memory with 95 % interval, {GROWTH_MAX_KIB_H:g} allowed: {said}"
        + ("" if known else f"; judged from {JUDGED_FROM_MIN:g} min on"),
    )


def handles(figures: SoakFigures) -> Check:
    """Check that no process holds more handles or threads, and the run no more shared memory, in its second half."""
    more = [
        f"{name} {what} {pair[0]} to {pair[1]}"
        for name, item in figures.processes.items()
        for what, pair in (("handles", item.handles), ("threads", item.threads))
        if pair[1] > pair[0]
    ]
    more += [
        f"{what} {pair[0]} to {pair[1]}"
        for what, pair in (("shared files", figures.shared_files), ("shared KiB", figures.shared_kib))
        if pair[1] > pair[0]
    ]
    return Check(
        name="handles", passed=not more, said=", ".join(more) or "no more in the second half than in the first"
    )


def faults_without_reflex(figures: SoakFigures) -> list[str]:
    """Return the faults left when each reflex has explained one `arm_error`."""
    arm_error = describe(BY_NAME["arm_error"].code)
    own = [text for text in figures.faults if text == arm_error]
    return [text for text in figures.faults if text != arm_error] + own[len(figures.reflexes) :]
