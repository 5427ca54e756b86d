"""The next generation of a policy: the same graph and specification, new trained tensors, its parent named, signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from poco.artifact import Manifest, TensorFile, sha256
from poco.errors import ArtifactError
from poco.offer import Offer
from poco.trust import Purpose, sign

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Successor:
    """What a learner made of a policy: trained tensors by key, golden vectors by name, and what to write into the manifest."""

    trained: Mapping[str, npt.NDArray[np.generic]]
    golden: Mapping[str, npt.NDArray[np.generic]]
    generation: int
    expires_unix_s: int
    metrics: Mapping[str, float]


def next_generation(ancestor: Manifest, successor: Successor, key: Ed25519PrivateKey) -> Offer:
    """Return `successor` as a signed offer that names `ancestor` as its parent and sends the two files that changed.

    Raises ArtifactError if the ancestor has no trained tensors to replace or the generation does not grow.
    """
    by_role = {item.role: item for item in ancestor.tensors}
    if not ancestor.swappable or "trained" not in by_role or "golden" not in by_role:
        raise ArtifactError(
            "the artifact has its weights inside the graph: export it with weights as inputs to improve it"
        )
    if successor.generation <= ancestor.generation:
        raise ArtifactError(
            f"the next generation is {successor.generation}, its parent {ancestor.generation}: count generations up"
        )
    files = {
        by_role["trained"].file: save(dict(successor.trained)),
        by_role["golden"].file: save(dict(successor.golden)),
    }
    tensors = tuple(
        TensorFile(file=item.file, sha256=sha256(files[item.file]), role=item.role) if item.file in files else item
        for item in ancestor.tensors
    )
    manifest = msgspec.structs.replace(
        ancestor,
        tensors=tensors,
        generation=successor.generation,
        parent=ancestor.generation,
        expires_unix_s=successor.expires_unix_s,
        metrics=dict(successor.metrics),
    )
    payload = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    return Offer(payload, sign(payload, Purpose.ARTIFACT, key), files)
