"""Episodes whose numbers say where they come from, for tests of the replay."""

from __future__ import annotations

from poco.episodes import Episode
from poco.learner.replay import Replay
from poco.records import EpisodeEnd, Step, StepKey
from poco.specification import Specification

BYTES = 200_000


def end(episode: int, observation: float, **changes: object) -> EpisodeEnd:
    values: dict[str, object] = {"outcome": "failure", "terminated": False, "truncated": True, **changes}
    return EpisodeEnd(
        robot="arm",
        boot_epoch=1,
        episode=episode,
        tick=0,
        final_observation=[observation] * 6,
        **values,  # type: ignore[arg-type]
    )


def counted(specification: Specification, episode: int, length: int, **changes: object) -> Episode:
    """An episode whose values tell where they come from: episode / 1000 + step / 100, actions negative, reward at the end."""
    success = changes.get("outcome") == "success"
    steps = tuple(
        Step(
            key=StepKey("arm", 1, episode, step),
            tick=0,
            generation=0,
            chunk_id=1,
            observation=[episode / 1000 + step / 100] * 6,
            action_policy=[-(episode / 1000 + step / 100)] * 4,
            action_executed=[0.0] * 4,
            reward=float(success and step == length - 1),
        )
        for step in range(length)
    )
    return Episode(specification, steps, end(episode, episode / 1000 + length / 100, **changes))


def add(replay: Replay, *episodes: Episode) -> None:
    for episode in episodes:
        assert replay.add(episode.steps, episode.end)
