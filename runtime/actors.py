"""Who chooses the actions of a chunk at an observation tick: a policy's session, a policy that is replaced, the scripted operator.

Whatever chooses is an Actor; planning, publishing, waiting and recording are the same for all. Policy process only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from poco.artifact import Artifact
from poco.hw.cube_operator import CubeOperator, CubeSight
from poco.hw.scripted_operator import Operator, Sight
from poco.motion import Plan
from poco.noise import NoiseSource
from poco.observation import check_sources, scene, wrap
from poco.records import TaskSignal
from poco.runtime.backends.backend import Backend
from poco.runtime.chunk_session import Pixels
from poco.runtime.encoder import Encoder, Images, encoder_of
from poco.runtime.opening import open_session
from poco.specification import Specification

Floats = npt.NDArray[np.float64]
Actions = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Moment:
    """One observation tick: the observation [O] as a model sees it, and the ROBOT_STATE and task signal it was made from.

    `chunk` counts the chunks of the episode; `frames` [H, W, 3] are what cameras show to a policy that takes them whole, valid
    until they are looked through again.
    """

    episode: int
    chunk: int
    observation: npt.NDArray[np.float32]
    state: npt.NDArray[np.void]
    signal: TaskSignal
    frames: tuple[Pixels, ...] = ()


@dataclass(frozen=True, slots=True)
class ChunkFigures:
    """How one chunk went: planned slower than it was meant, arm brought to rest first, too late for its attach tick, held."""

    stretched: bool
    stopped_first: bool
    late: bool
    interrupted: bool


Rehearse = Callable[[Actions], Plan]
"""Plans a chunk from where the newest one began, without publishing it."""


class Actor(Protocol):
    """Turns a moment into the actions of a chunk; one that can be replaced while it acts also looks at how that goes."""

    @property
    @abstractmethod
    def specification(self) -> Specification:
        """What is seen and done."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Which policy chose the newest chunk, 0 for none."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that are looked through, in order; the same for all generations."""
        return self.specification.cameras

    @property
    def encoder(self) -> Encoder | None:
        """What makes observations of images, the same for all generations; None for who sees nothing or takes frames whole."""
        return None

    @property
    def taken_in(self) -> Images | None:
        """The images [cameras, 3, side, side] of which a policy that takes frames whole made the newest chunk, as it saw them."""
        return None

    def images_of(self, frames: tuple[Pixels, ...]) -> Images | None:
        """Return what a policy that takes frames whole would see where cameras show `frames` [H, W, 3]."""
        return None

    @property
    def execute_steps(self) -> int:
        """How many actions of the newest chunk are to be executed before the next one attaches."""
        return self.specification.execute_steps

    @property
    def human(self) -> bool:
        """Whether a person chose the newest chunk."""
        return False

    @property
    def labels(self) -> dict[str, str]:
        """What the ends of episodes say of who acted, beside the generation."""
        return {}

    @property
    def speed(self) -> float:
        """Factor on the speed of the motion, in (0, 1]."""
        return 1.0

    @abstractmethod
    def choose(self, moment: Moment) -> Actions:
        """Return the actions [chunk_steps, action_size] in action units; never raises, whatever the moment holds."""

    def yields(self) -> bool:
        """Asked at the end of every control period: tell whether to choose anew at once rather than when the chunk is over."""
        return False

    def meanwhile(self, rehearse: Rehearse, live: Plan) -> None:
        """Use the time in which the arm moves on: the chunk chosen last is published as `live`."""
        return

    def chunk(self, figures: ChunkFigures) -> None:
        """Take in how the chunk chosen last went."""
        return

    def episode(self, success: bool, fault: bool) -> None:
        """Take in how the episode ended."""
        return

    def helped_episode(self) -> None:
        """Take in that an episode has ended which tells nothing of who acts: a person helped in it."""
        return


class PolicyActor(Actor):
    """A policy artifact under its session, with the seeded noise of each chunk."""

    def __init__(self, artifact: Artifact, seed: int, task: str = "", backend: Backend | None = None) -> None:
        """Open the session under `backend` (None: the CPU), told `task`, and warm it up; raises ArtifactError."""
        self._artifact = artifact
        check_sources(self.specification)
        self._encoder = encoder_of(artifact, backend)
        self._session = open_session(artifact, task, backend)
        self._session.warm_up()
        self._noise = NoiseSource(seed)

    @property
    def specification(self) -> Specification:
        """What the artifact says."""
        return self._artifact.specification

    @property
    def generation(self) -> int:
        """What the artifact says."""
        return self._artifact.manifest.generation

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those of the artifact."""
        return self._artifact.cameras

    @property
    def encoder(self) -> Encoder | None:
        """That of the artifact."""
        return self._encoder

    @property
    def taken_in(self) -> Images | None:
        """Those of the session."""
        return self._session.taken_in

    def images_of(self, frames: tuple[Pixels, ...]) -> Images | None:
        """Return what the session would see."""
        return self._session.images_of(frames)

    def choose(self, moment: Moment) -> Actions:
        """Run the policy on what is observed."""
        noise = self._noise.sample(moment.episode, moment.chunk, self._session.noise_shape)
        return self._session.run(moment.observation, noise, moment.frames)


class Lookout:
    """What the scripted operator knows of the hole: what the task's sensor says, averaged over the episode."""

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        self._readings: list[Floats] = []
        self.sight: Sight

    def look(self, moment: Moment) -> None:
        """Look again; the first chunk of an episode begins anew."""
        signal = moment.signal
        if moment.chunk == 0:
            self._readings = []
        first_yaw = self._readings[0][3] if self._readings else signal.target_yaw
        yaw = first_yaw + wrap(signal.target_yaw - first_yaw)
        self._readings.append(np.array([*signal.target_position, yaw]))
        mean = np.mean(self._readings, axis=0)
        view = scene(moment.state, signal, self._specification)
        self.sight = Sight(moment.episode, view, hole_position=mean[:3], hole_yaw=float(mean[3]))


class OperatorActor(Actor):
    """The scripted operator with a steady hand."""

    generation = 0

    def __init__(self, specification: Specification, seed: int) -> None:
        self._specification = specification
        self._lookout = Lookout(specification)
        self._operator = Operator(specification, lambda: self._lookout.sight, noise=0.0, bias_m=0.0, seed=seed)

    @property
    def specification(self) -> Specification:
        """What was asked for."""
        return self._specification

    def choose(self, moment: Moment) -> Actions:
        """Look again and go on towards the hole."""
        self._lookout.look(moment)
        return self._operator()


class CubeOperatorActor(Actor):
    """The scripted operator of the cube; it goes by what the task's sensor says at the moment, as the cube moves."""

    generation = 0

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        self._sight: CubeSight
        self._operator = CubeOperator(specification, lambda: self._sight)

    @property
    def specification(self) -> Specification:
        """What was asked for."""
        return self._specification

    def choose(self, moment: Moment) -> Actions:
        """Look again and go on with the cube."""
        self._sight = CubeSight(moment.episode, scene(moment.state, moment.signal, self._specification))
        return self._operator()
