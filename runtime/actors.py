"""Who chooses the actions of a chunk at an observation tick: a policy's session or the scripted operator.

Whatever chooses is an Actor; planning, publishing, waiting and recording are the same for all. Policy process only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from poco.artifact import Artifact, read_artifact
from poco.hw.scripted_operator import Operator, Sight
from poco.noise import NoiseSource
from poco.observation import check_sources, scene, wrap
from poco.records import TaskSignal
from poco.runtime.run_options import OPERATOR, RunOptions
from poco.runtime.session import Session
from poco.specification import Specification

Floats = npt.NDArray[np.float64]
Actions = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Moment:
    """One observation tick: the observation [O] as a model sees it, and the ROBOT_STATE and task signal it was made from.

    `chunk` counts the chunks of the episode.
    """

    episode: int
    chunk: int
    observation: npt.NDArray[np.float32]
    state: npt.NDArray[np.void]
    signal: TaskSignal


class Actor(Protocol):
    """Turns a moment into the actions of a chunk."""

    @property
    def specification(self) -> Specification:
        """What is seen and done."""
        ...

    @property
    def generation(self) -> int:
        """Which policy this is, 0 for none."""
        ...

    def choose(self, moment: Moment) -> Actions:
        """Return the actions [chunk_steps, action_size] in action units; never raises, whatever the moment holds."""
        ...


class PolicyActor:
    """A policy artifact under its session, with the seeded noise of each chunk."""

    def __init__(self, artifact: Artifact, seed: int) -> None:
        """Open and warm up the session; raises ArtifactError."""
        self.specification = artifact.specification
        self.generation = artifact.manifest.generation
        check_sources(self.specification)
        self._session = Session(artifact)
        self._session.warm_up()
        self._noise = NoiseSource(seed)

    def choose(self, moment: Moment) -> Actions:
        """Run the graph on the observation."""
        noise = self._noise.sample(moment.episode, moment.chunk, self._session.noise_shape)
        return self._session.run(moment.observation, noise)


class OperatorActor:
    """The scripted operator with a steady hand; it knows of the hole what the task's sensor says, averaged over the episode."""

    generation = 0

    def __init__(self, specification: Specification, seed: int) -> None:
        self.specification = specification
        self._operator = Operator(specification, lambda: self._sight, noise=0.0, bias_m=0.0, seed=seed)
        self._sight: Sight
        self._readings: list[Floats] = []

    def choose(self, moment: Moment) -> Actions:
        """Look again and go on towards the hole."""
        signal = moment.signal
        if moment.chunk == 0:
            self._readings = []
        first_yaw = self._readings[0][3] if self._readings else signal.target_yaw
        yaw = first_yaw + wrap(signal.target_yaw - first_yaw)
        self._readings.append(np.array([*signal.target_position, yaw]))
        mean = np.mean(self._readings, axis=0)
        view = scene(moment.state, signal, self.specification)
        self._sight = Sight(moment.episode, view, hole_position=mean[:3], hole_yaw=float(mean[3]))
        return self._operator()


def open_actor(options: RunOptions) -> Actor:
    """Return who chooses the chunks of a run, ready to do so; raises ArtifactError."""
    if options.policy == OPERATOR:
        return OperatorActor(options.specification(), options.seed)
    return PolicyActor(read_artifact(Path(options.policy)), options.seed)
