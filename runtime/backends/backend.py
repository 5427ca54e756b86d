"""The one interface between a session and what computes: memory where graphs run, graphs opened there, inputs and outputs bound.

A session makes its memories once, binds them to graphs and from then on only writes inputs, runs and reads outputs. What one
graph leaves in a memory another one reads there: nothing between them passes through the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from poco.artifact import Graph

Array = npt.NDArray[np.generic]


class Memory(Protocol):
    """One array of fixed shape and type where the backend computes."""

    def write(self, values: Array) -> None:
        """Copy `values` in, an array of as many elements; raises ValueError for another number."""

    def read(self) -> Array:
        """Return a copy of what lies there, once all that was started is done."""


class Binding(Protocol):
    """A graph with everything it reads and writes in its place; keeps those memories alive."""

    def run(self) -> None:
        """Run the graph once; what it writes may be read afterwards. Raises ArtifactError where that fails."""


class Opened(Protocol):
    """A graph that can be run."""

    def bind(self, memories: Mapping[str, Memory]) -> Binding:
        """Return the graph bound to `memories` by the names of its inputs and outputs; none of it is copied."""


class Backend(Protocol):
    """What computes; used by one thread of one process."""

    @property
    def facts(self) -> dict[str, str]:
        """What it is, for the record: `backend`, `version`, `device`."""

    def memory(self, shape: tuple[int, ...], dtype: str) -> Memory:
        """Return new memory of zeros; raises ArtifactError where a device has no room for it."""

    def constant(self, tensor: Array) -> Memory:
        """Return memory that holds the contiguous `tensor`, which must not be written to afterwards; copied only to a device.

        Raises ArtifactError where the device has no room for it.
        """

    def open(self, where: str, graph: Graph, payload: bytes) -> Opened:
        """Open the graph in `payload`; raises ArtifactError naming the artifact `where` if it is not what `graph` declares."""
