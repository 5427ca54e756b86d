"""Between the tensors of a network and those of its artifact, which lie as the inputs of the graphs take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from poco.artifact import Artifact, GraphInput, Manifest

Arrays = dict[str, npt.NDArray[Any]]


def inputs_of(manifest: Manifest) -> dict[str, GraphInput]:
    """Return the inputs that tensors are bound to, by the names of the tensors."""
    items = [item for graph in manifest.graphs for item in graph.inputs]
    return {item.tensor: item for item in items if item.tensor is not None}


def in_artifact(weights: Mapping[str, npt.NDArray[Any]], artifact: Artifact) -> Arrays:
    """Return the `weights` of a network in layout and precision of `artifact`, which has to have tensors of their names."""
    inputs, ours = inputs_of(artifact.manifest), artifact.tensors
    return {name: turned(one, inputs.get(name)).astype(ours[name].dtype, order="C") for name, one in weights.items()}


def in_network(tensors: Mapping[str, npt.NDArray[Any]], manifest: Manifest) -> Arrays:
    """Return the `tensors` of an artifact with `manifest` as its network has them, as copies."""
    inputs = inputs_of(manifest)
    return {name: np.array(turned(one, inputs.get(name)), order="C") for name, one in tensors.items()}


def turned(one: npt.NDArray[Any], item: GraphInput | None) -> npt.NDArray[Any]:
    """Return `one`, a weight of the network or what an artifact holds of it, in the layout of the other; `item` takes it."""
    return one.T if item is not None and item.transposed else one
