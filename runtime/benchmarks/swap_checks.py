"""What a run whose policy was replaced must show: every step names the generation whose weights chose its action."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from poco.artifact import Artifact
from poco.episodes import Episode, read_episode
from poco.errors import PocoError
from poco.noise import NoiseSource
from poco.records import Step
from poco.runtime.benchmarks.outcome import Floats as Samples
from poco.runtime.chunk_session import Floats
from poco.runtime.run_folder import ChunkRecord, RunFolder
from poco.runtime.session import Session
from poco.succession import Floats as Weights

ACTION_TOLERANCE = 1e-5
CHECKED_MIN = 0.9
"""So many of the chunks at least must be recorded well enough to be chosen again."""


def episodes_of(folder: RunFolder) -> list[Episode]:
    """Return the episodes that a run has recorded."""
    return [read_episode(path) for path in sorted(folder.episodes.glob("*.safetensors"))]


def check_names(episodes: Sequence[Episode], chunks: Sequence[ChunkRecord]) -> int:
    """Return the number of recorded steps; raises PocoError if one does not name its chunk's generation, or generations go back."""
    of = {chunk.chunk_id: chunk.generation for chunk in chunks}
    generations = [chunk.generation for chunk in chunks]
    if generations != sorted(generations):
        raise PocoError(
            "a chunk was made by an older generation than the one before it: this is a defect of poco, report it"
        )
    steps = [step for episode in episodes for step in episode.steps]
    mixed = [step for step in steps if step.chunk_id and step.generation != of[step.chunk_id]]
    if mixed:
        raise PocoError(
            f"step {mixed[0].key} names generation {mixed[0].generation}, not its chunk's: report this defect"
        )
    return len(steps)


class Chooser:
    """Chooses recorded chunks again, with the weights of any generation."""

    def __init__(self, artifact: Artifact, weights: Callable[[int], dict[str, Weights]], seed: int) -> None:
        self._session, self._weights, self._noise = Session(artifact), weights, NoiseSource(seed)
        self._bound = -1

    def choose(self, generation: int, episode: int, number: int, observation: Floats) -> Floats:
        """Return the actions [T, A] that `generation` chooses for chunk `number` of `episode`."""
        if generation != self._bound:
            self._session.rebind(self._session.prepare(dict(self._weights(generation))))
            self._bound = generation
        return self._session.run(observation, self._noise.sample(episode, number, self._session.noise_shape))


def check_actions(
    chooser: Chooser, episodes: Sequence[Episode], chunks: Sequence[ChunkRecord], tolerance: float = ACTION_TOLERANCE
) -> tuple[int, int]:
    """Choose every chunk again; return how many were, and by how many the generation before would have been found out.

    Raises PocoError if a step's action is not what the generation that it names chooses from what was observed, or if too few
    chunks can be chosen again.
    """
    in_order: dict[int, list[ChunkRecord]] = defaultdict(list)
    for chunk in chunks:
        in_order[chunk.episode].append(chunk)
    checked = told_apart = recorded = 0
    for episode in episodes:
        seen = {step.tick: step for step in episode.steps}
        acted: dict[int, list[Step]] = defaultdict(list)
        for step in episode.steps:
            acted[step.chunk_id].append(step)
        for place, chunk in enumerate(in_order[episode.end.episode]):
            recorded += 1
            before, after = seen.get(chunk.observation_tick), acted.get(chunk.chunk_id)
            if before is None or after is None:
                continue
            first = before.key.step + episode.specification.delay_steps
            done = {step.key.step - first: np.array(step.action_policy, np.float32) for step in after}
            moment = episode.end.episode, place, np.array(before.observation, np.float32)
            if _differs(done, chooser.choose(chunk.generation, *moment), tolerance):
                raise PocoError(
                    f"chunk {chunk.chunk_id} of episode {episode.end.episode} is not what generation {chunk.generation} chooses: "
                    "this is a defect of poco, report it"
                )
            checked += 1
            told_apart += _differs(done, chooser.choose(chunk.generation - 1, *moment), tolerance)
    if checked < CHECKED_MIN * recorded:
        raise PocoError(f"only {checked} of {recorded} chunks can be chosen again: repeat on an idle computer")
    return checked, told_apart


def _differs(done: dict[int, Floats], chosen: Floats, tolerance: float) -> bool:
    """Tell whether an action that was done (by its place in the chunk) is not the one that was chosen; periods may be missing."""
    return any(
        not 0 <= place < len(chosen) or bool(np.abs(action - chosen[place]).max() > tolerance)
        for place, action in done.items()
    )


def ways_us(
    offered_ns: dict[int, int], chunks: Sequence[ChunkRecord], received_ns: dict[int, int]
) -> tuple[Samples, Samples]:
    """Return how long each generation that drove took from its offer to its first published chunk (us).

    First those taken in while the arm was at its task, then those whose chunk begins an episode: they had to wait for the arm.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    driven, episode = set[int](), -1
    for chunk in chunks:
        begins, episode = chunk.episode != episode, chunk.episode
        first, offered = chunk.generation not in driven, offered_ns.get(chunk.generation)
        driven.add(chunk.generation)
        if first and offered and chunk.observation_tick in received_ns:
            found[begins].append((received_ns[chunk.observation_tick] + chunk.total_ns - offered) / 1e3)
    return np.array(found[False]), np.array(found[True])
