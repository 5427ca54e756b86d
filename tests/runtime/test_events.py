"""What happens in a run is kept in the journal in its own words."""

from __future__ import annotations

import pytest

from poco.journal.records import Noted, Written, decode, encode
from poco.runtime.events import TEXT_MAX, noted
from poco.runtime.run_folder import (
    Dilation,
    EpisodeStarted,
    Event,
    Fault,
    GenerationMoved,
    HandsLost,
    Hold,
    PolicyRestart,
    PolicyStall,
    Recovery,
    Reflex,
    SupervisorStall,
)


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        (Fault(tick=7, code=3, text="arm silent"), "fault", "arm silent"),
        (Hold(tick=7, code=2, text="lead too large"), "hold", "lead too large"),
        (Reflex(tick=7, errors=["joint_reflex", "cartesian_reflex"]), "stop", "joint_reflex, cartesian_reflex"),
        (Recovery(tick=7, automatic=True), "recovery", "by itself"),
        (
            GenerationMoved(tick=7, generation=4, before="probation", after="active", reason="passed"),
            "swap",
            "generation 4 from probation to active (passed)",
        ),
        (HandsLost(tick=7, reason="the gamepad is gone"), "note", "the gamepad is gone"),
        (PolicyStall(tick=7, silent_s=2.04), "gap", "the policy gave no sign of life for 2.0 s"),
        (
            PolicyRestart(tick=7, start=2, reason="it died"),
            "gap",
            "the policy is started again, time 2, its episode begins again (it died)",
        ),
        (
            SupervisorStall(tick=7, silent_s=3.0, ticks_dropped=5),
            "gap",
            "the supervisor stood still for 3.0 s, 5 ticks were not kept",
        ),
    ],
)
def test_events_of_the_journal(event: Event, kind: str, text: str) -> None:
    """Kind, tick, generation and words are those of the event, and survive the disk."""
    record = noted(event, 4)
    assert record == Noted(event=kind, tick=7, generation=4, text=text)  # type: ignore[arg-type]
    written = Written("supervisor-1", 1, 1, 2, record)
    assert decode(encode(written)) == written


def test_what_steps_tell_already() -> None:
    """Beginnings of episodes and the emulated arm's pace are not kept twice; long words are cut."""
    assert noted(EpisodeStarted(tick=7, episode=1, seed=2), 4) is None
    assert noted(Dilation(tick=7, total_s=1.0, longest_s=0.1), 4) is None
    long = noted(Fault(tick=7, code=3, text="x" * 2 * TEXT_MAX), 4)
    assert long is not None
    assert len(long.text) == TEXT_MAX
