"""Whether what a run records finds room in its journal: asked before any process starts, since a run waits for its journal."""

from __future__ import annotations

from poco.errors import ArtifactError
from poco.journal.records import Boot, encode
from poco.records import VECTOR_MAX
from poco.runtime.entrance import PACKET_BYTES, Offer
from poco.specification import Specification

LARGEST = 1 << 62


def check_recordable(specification: Specification, robot: str) -> None:
    """Raise ArtifactError where the journal of `robot` could not take an observation, or `specification` itself, in one packet."""
    seen = specification.observation_size
    if seen > VECTOR_MAX:
        raise ArtifactError(
            f"an observation of {specification.name} has {seen} numbers, the journal takes up to {VECTOR_MAX}: leave fields out, "
            "or make an encoder that says less of each image"
        )
    boot = Boot(
        robot=robot,
        boot_epoch=LARGEST,
        generation=LARGEST,
        specification=specification,
        specification_hash=specification.digest(),
    )
    size_bytes = len(encode(Offer(LARGEST, boot)))
    if size_bytes > PACKET_BYTES:
        raise ArtifactError(
            f"the specification {specification.name} takes {size_bytes} bytes on its way into the journal, the limit is "
            f"{PACKET_BYTES}: leave fields out, or give them shorter names"
        )
