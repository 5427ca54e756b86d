"""What every policy is to the process that drives with it: from observations to chunks, with weights that can be changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from poco.artifact import Tensors
from poco.runtime.backends.backend import Binding

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class ChunkSession(Protocol):
    """What turns observations into chunks, with weights that can be changed between two of them; policy process and gate."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise that `run` takes."""

    @property
    def taken_in(self) -> Pixels | None:
        """The images [cameras, 3, side, side] of which the newest chunk was made, as the model saw them; None if of none."""

    def images_of(self, frames: Sequence[Pixels]) -> Pixels | None:
        """Return the images [cameras, 3, side, side] that a chunk would be made of where cameras show `frames`; None if of none."""

    def prepare(self, tensors: Tensors) -> Binding:
        """Bind a set of tensors, ready for `rebind`; raises ArtifactError."""

    def rebind(self, binding: Binding) -> Binding:
        """Let the next `run` use `binding`; return the one in use until now."""

    def run(self, observation: Floats, noise: Floats, frames: Sequence[Pixels] = ()) -> Floats:
        """Return the actions [T, A] for `observation` [O], `noise` and what the cameras show, `frames` [H, W, 3] each."""

    def warm_up(self) -> None:
        """Run until memory is planned and kernels are there; before the arm is armed."""
