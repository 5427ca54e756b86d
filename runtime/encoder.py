"""The encoder of a policy that sees, under ONNX Runtime: images and what is told become the observation of its graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime

from poco.artifact import Artifact
from poco.errors import ArtifactError
from poco.refusal import Reason, Refused
from poco.runtime.session import WARM_UP_RUNS, open_graph

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

IMAGES, STATE, OBSERVATION = "images", "state", "observation"


class Encoder:
    """Runs the first graph of an artifact that sees; all of it is constant. Policy process (and gate), one thread."""

    def __init__(self, artifact: Artifact) -> None:
        """Open the graph and reproduce its golden vectors; raises ArtifactError."""
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
        self._session = open_graph(artifact, graph)
        self._images, self._state = np.zeros(shape, np.uint8), np.zeros((1, told), np.float32)
        self._observation: Floats = np.zeros((1, specification.observation_size), np.float32)
        self._io = self._session.io_binding()
        for item in graph.inputs:
            buffer = self._images if item.source == IMAGES else self._state
            self._io.bind_ortvalue_input(item.name, onnxruntime.OrtValue.ortvalue_from_numpy(buffer))
        self._io.bind_ortvalue_output(OBSERVATION, onnxruntime.OrtValue.ortvalue_from_numpy(self._observation))
        self._check_golden(artifact)

    def run(self, images: Images, state: Floats) -> Floats:
        """Return the observation [O] (a copy) for `images` [cameras, 3, side, side] and `state` [S] in -1 ... 1."""
        self._images[0], self._state[0] = images, state
        self._session.run_with_iobinding(self._io)
        observation: Floats = self._observation[0].copy()
        return observation

    def warm_up(self) -> None:
        """Run on black images until ONNX Runtime has planned its memory; call it before the arm is armed."""
        for _ in range(WARM_UP_RUNS):
            self.run(np.zeros_like(self._images[0]), np.zeros_like(self._state[0]))

    def _check_golden(self, artifact: Artifact) -> None:
        golden, tolerance = artifact.golden, artifact.manifest.golden_tolerance
        shapes = {
            IMAGES: self._images.shape[1:],
            STATE: self._state.shape[1:],
            OBSERVATION: self._observation.shape[1:],
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


def encoder_of(artifact: Artifact) -> Encoder | None:
    """Return the encoder of `artifact`, warmed up, None for a policy that sees nothing; raises ArtifactError."""
    if not artifact.specification.cameras:
        return None
    encoder = Encoder(artifact)
    encoder.warm_up()
    return encoder
