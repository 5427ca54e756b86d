"""How a serving learner stands: one document for the file, the panel and whoever asks over http."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from poco.clock import monotonic_ns
from poco.learner.agent_settings import Phase
from poco.learner.service import FLOOR_SPAN, Service

PREFIX = "poco_learner_"


class RobotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One robot: whether it is connected, the highest generation it has seen, and the one that drove in its newest episode."""

    connected: bool
    generation: int
    driving: int | None


class GuardStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard holds the success to; see `success_guard.GuardState`."""

    baseline: float
    measured: bool
    best: float
    below: int
    roll_backs: int


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one moment.

    successes_20 of the `recent` (at most 20) newest episodes succeeded. published counts the whole run; withheld,
    refused_episodes and relabelled count in this process. inbox_position is how far the durable inbox goes, learned_position how
    far it was learned from.
    """

    unix_s: float
    monotonic_s: float
    started_unix_s: float
    address: str
    robots: dict[str, RobotStatus]
    episodes: int
    steps: int
    successes_20: int
    recent: int
    updates: int
    owed: int
    refused_updates: int
    phase: Phase
    guard: GuardStatus
    generation: int
    published: int
    withheld: int
    last_withheld: str
    refused_episodes: int
    last_refusal: str
    relabelled: int
    not_whole: int
    inbox_bytes: int
    inbox_position: int
    learned_position: int
    rejected_messages: int
    trouble: str


def status_of(service: Service, started_unix_s: float) -> ServiceStatus:
    """Return how `service` stands now; the thread that trains calls it."""
    learning, link, publications = service.learning, service.server.status, service.publications
    progress = learning.progress
    guard = progress.guard
    return ServiceStatus(
        unix_s=time.time(),
        monotonic_s=monotonic_ns() / 1e9,
        started_unix_s=started_unix_s,
        address=service.server.address,
        robots={
            name: RobotStatus(connected=name in link.robots, generation=generation, driving=service.driving.get(name))
            for name, generation in sorted(link.generations.items())
        },
        episodes=progress.episodes,
        steps=progress.steps,
        successes_20=sum(service.recent),
        recent=len(service.recent),
        updates=progress.updates,
        owed=max(0, learning.owed),
        refused_updates=progress.refused,
        phase=learning.phase(),
        guard=GuardStatus(
            baseline=guard.baseline,
            measured=guard.measured,
            best=guard.best,
            below=guard.below,
            roll_backs=guard.roll_backs,
        ),
        generation=publications.generation,
        published=publications.published,
        withheld=publications.withheld,
        last_withheld=publications.last_withheld,
        refused_episodes=service.admitted.refused,
        last_refusal=service.admitted.last_refusal,
        relabelled=service.admitted.relabelled,
        not_whole=link.counts.get("episodes not whole", 0),
        inbox_bytes=link.inbox_bytes,
        inbox_position=link.position,
        learned_position=learning.position,
        rejected_messages=link.rejected,
        trouble=link.trouble or _too_far_ahead(service),
    )


def _too_far_ahead(service: Service) -> str:
    robots = service.too_far_ahead
    if not robots:
        return ""
    return (
        f"{', '.join(robots)} claim a generation more than {FLOOR_SPAN} ahead of {service.publications.generation} and will take "
        "none of this learner's: serve them from the newest artifact they have, or revoke their keys"
    )


def prometheus(status: ServiceStatus) -> str:
    """Return the numbers of `status` in Prometheus' text format 0.0.4, robots and guard by labels."""
    return "".join(f"{PREFIX}{line}\n" for line in _lines(status))


def _lines(status: ServiceStatus) -> Iterator[str]:
    for name in ServiceStatus.__struct_fields__:
        value = getattr(status, name)
        if isinstance(value, int | float):
            yield f"{name} {float(value)!r}"
    for name in GuardStatus.__struct_fields__:
        yield f"guard_{name} {float(getattr(status.guard, name))!r}"
    for phase in ("frozen", "cloning", "learning"):
        yield f'phase{{phase="{phase}"}} {float(status.phase == phase)!r}'
    yield f"trouble {float(bool(status.trouble))!r}"
    for robot, one in status.robots.items():
        label = robot.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'robot_connected{{robot="{label}"}} {float(one.connected)!r}'
        yield f'robot_generation{{robot="{label}"}} {float(one.generation)!r}'
        if one.driving is not None:
            yield f'robot_driving{{robot="{label}"}} {float(one.driving)!r}'
