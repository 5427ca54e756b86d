"""An offer: a signed artifact on its way to a robot, as one manifest, its signature and the files the robot may lack.

Nothing in it is trusted; decoding only counts and measures. A robot that has a file of the same hash already (the graph, a
frozen encoder) does not need it sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated

import msgspec

from poco.artifact import MAX_FILE_BYTES, MAX_MANIFEST_BYTES
from poco.refusal import Reason, Refused
from poco.trust import SIGNATURE_BYTES_MAX

VERSION = 1
FILES_MAX = 64
HEADER_BYTES_MAX = 1 << 14
PREFIX_BYTES = 8

Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]


class Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Name and size of one file of an offer."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    size: Size


class OfferHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Begins an offer, after its own length (8 bytes, little-endian); manifest, signature and files follow without gaps."""

    version: int
    manifest: Size
    signature: Size
    files: Annotated[tuple[Part, ...], msgspec.Meta(max_length=FILES_MAX)]


@dataclass(frozen=True, slots=True)
class Offer:
    """Bytes of a manifest, of its signature and of files by name; nothing about them is known to be true."""

    manifest: bytes
    signature: bytes
    files: Mapping[str, bytes]

    def pack(self) -> bytes:
        """Return the offer as one run of bytes."""
        parts = tuple(Part(name, len(payload)) for name, payload in self.files.items())
        header = msgspec.msgpack.encode(
            OfferHeader(version=VERSION, manifest=len(self.manifest), signature=len(self.signature), files=parts)
        )
        prefix = len(header).to_bytes(PREFIX_BYTES, "little")
        return b"".join((prefix, header, self.manifest, self.signature, *self.files.values()))


def unpack_offer(packed: bytes, bytes_max: int = MAX_FILE_BYTES) -> Offer:
    """Return the offer in `packed`; raises Refused if it is malformed or has more than `bytes_max`."""
    if len(packed) > bytes_max:
        raise Refused(Reason.TOO_LARGE, f"the offer has more than {bytes_max} bytes: raise the limit or publish less")
    size = int.from_bytes(packed[:PREFIX_BYTES], "little")
    if len(packed) < PREFIX_BYTES or size > min(HEADER_BYTES_MAX, len(packed) - PREFIX_BYTES):
        raise Refused(Reason.MALFORMED, f"the offer has {len(packed)} bytes and no header: publish it again")
    try:
        header = msgspec.msgpack.decode(packed[PREFIX_BYTES : PREFIX_BYTES + size], type=OfferHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(Reason.MALFORMED, f"the offer's header is malformed ({error}): publish it again") from error
    for length, what, limit in (
        (header.manifest, "manifest", MAX_MANIFEST_BYTES),
        (header.signature, "signature", SIGNATURE_BYTES_MAX),
    ):
        if length > limit:
            raise Refused(Reason.TOO_LARGE, f"the {what} of the offer has {length} bytes, the limit is {limit}")
    names = [part.name for part in header.files]
    sizes = [header.manifest, header.signature, *(part.size for part in header.files)]
    ends = list(accumulate(sizes, initial=PREFIX_BYTES + size))
    if header.version != VERSION or len(set(names)) != len(names) or ends[-1] != len(packed):
        raise Refused(
            Reason.MALFORMED,
            f"the offer is v{header.version} with {len(packed)} bytes and says {ends[-1]}, expected v{VERSION}: publish it again",
        )
    manifest, signature, *payloads = (packed[first:last] for first, last in pairwise(ends))
    return Offer(manifest, signature, dict(zip(names, payloads, strict=True)))
