"""What the run folder keeps of a chunk: when it was observed, chosen, planned and published, and how that went."""

from __future__ import annotations

from dataclasses import dataclass

from poco.rollout import Transition
from poco.runtime.eyes import Glance
from poco.runtime.run_folder import ChunkRecord


@dataclass(frozen=True, slots=True)
class Stamps:
    """When the policy process was woken (robot tick, ns), had sensed (ns) and had the actions (ns); what it saw at a glance."""

    tick: int
    woken_ns: int
    sensed_ns: int
    inferred_ns: int
    glance: Glance | None


def chunk_record(transition: Transition, episode: int, stamps: Stamps, published_ns: int, late: bool) -> ChunkRecord:
    """Return the record of the chunk that led to `transition`; policy process only."""
    spline, glance = transition.plan.spline, stamps.glance
    return ChunkRecord(
        chunk_id=int(spline["chunk_id"]),
        episode=episode,
        generation=int(spline["generation"]),
        observation_tick=stamps.tick,
        attach_tick=int(spline["attach_tick"]),
        sense_ns=stamps.sensed_ns - stamps.woken_ns,
        inference_ns=stamps.inferred_ns - stamps.sensed_ns,
        planning_ns=published_ns - stamps.inferred_ns,
        total_ns=published_ns - stamps.woken_ns,
        stretched=transition.plan.stretched,
        stopped_first=transition.plan.stopped_first,
        late=late,
        image_age_ns=0 if glance is None else glance.age_ns,
        image_ns=0 if glance is None else glance.took_ns,
    )
