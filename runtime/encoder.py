"""The encoder of a policy that sees: images and what is told become the observation of its graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.artifact import Artifact
from poco.errors import ArtifactError
from poco.refusal import Reason, Refused
from poco.runtime.backends.backend import Backend
from poco.runtime.backends.onnx_runtime import OnnxRuntimeCpu
from poco.runtime.session import WARM_UP_RUNS

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

IMAGES, STATE, OBSERVATION = "images", "state", "observation"


class Encoder:
    """Runs the first graph of an artifact that sees; all of it is constant. Policy process (and gate), one thread."""

    def __init__(self, artifact: Artifact, backend: Backend | None = None) -> None:
        """Open the graph under `backend` (None: the CPU) and reproduce its golden vectors; raises ArtifactError."""
        graph, specification = artifact.manifest.graphs[0], artifact.specification
        inputs, told = {item.source: item for item in graph.inputs}, specification.told.observation_size
        shape = inputs[IMAGES].shape if set(inputs) == {IMAGES, STATE} else ()
        cameras = len(specification.cameras)
        if len(shape) != 5 or shape[:3] != (1, cameras, 3) or shape[3] != shape[4] or inputs[STATE].shape != (1, told):
            taken = ", ".join(f"{item.source} {list(item.shape)}" for item in graph.inputs)
            raise ArtifactError(
                f"artifact {artifact.path}: its encoder takes {taken}, expected square images of {cameras} cameras and a state of "
                f"{told}: export it again"
            )
        if [(item.name, item.shape) for item in graph.outputs] != [(OBSERVATION, (1, specification.observation_size))]:
            raise ArtifactError(f"artifact {artifact.path}: its encoder does not make one observation: export it again")
        if {item.dtype for item in graph.inputs} != {"uint8", "float32"} or inputs[IMAGES].dtype != "uint8":
            raise ArtifactError(f"artifact {artifact.path}: its encoder does not take images as u8: export it again")
        self.cameras = specification.cameras
        self.side = shape[3]
        backend = backend or OnnxRuntimeCpu()
        self._images_shape, self._state_shape = shape[1:], (told,)
        self._images, self._state = backend.memory(shape, "uint8"), backend.memory((1, told), "float32")
        self._observation = backend.memory(graph.outputs[0].shape, "float32")
        memories = {item.name: self._images if item.source == IMAGES else self._state for item in graph.inputs}
        opened = backend.open(str(artifact.path), graph, artifact.graphs[graph.name])
        self._binding = opened.bind(memories | {OBSERVATION: self._observation})
        self._check_golden(artifact)

    def run(self, images: Images, state: Floats) -> Floats:
        """Return the observation [O] (a copy) for `images` [cameras, 3, side, side] and `state` [S] in -1 ... 1."""
        self._images.write(images)
        self._state.write(state)
        self._binding.run()
        observation: Floats = self._observation.read()[0]
        return observation

    def warm_up(self) -> None:
        """Run on black images until memory is planned; call it before the arm is armed."""
        for _ in range(WARM_UP_RUNS):
            self.run(np.zeros(self._images_shape, np.uint8), np.zeros(self._state_shape, np.float32))

    def _check_golden(self, artifact: Artifact) -> None:
        golden, tolerance = artifact.golden, artifact.manifest.golden_tolerance
        shapes = {
            IMAGES: self._images_shape,
            STATE: self._state_shape,
            OBSERVATION: (artifact.specification.observation_size,),
        }
        if not all(name in golden and golden[name].shape[1:] == shape for name, shape in shapes.items()):
            raise Refused(
                Reason.GOLDEN, f"artifact {artifact.path} has golden images of a wrong shape: export it again"
            )
        cases = zip(golden[IMAGES].astype(np.uint8), golden[STATE].astype(np.float32), strict=True)
        actual, wanted = np.stack([self.run(*case) for case in cases]), golden[OBSERVATION].astype(np.float32)
        error = float(np.max(np.abs(actual - wanted)))
        if not error <= tolerance:
            raise Refused(
                Reason.GOLDEN,
                f"artifact {artifact.path} sees what differs from its golden observations by {error:.2e}, the tolerance is "
                f"{tolerance:.0e}: export it again",
            )


def encoder_of(artifact: Artifact, backend: Backend | None = None) -> Encoder | None:
    """Return the encoder of `artifact`, warmed up, None for a policy that sees nothing; raises ArtifactError."""
    if not artifact.specification.cameras:
        return None
    encoder = Encoder(artifact, backend)
    encoder.warm_up()
    return encoder
