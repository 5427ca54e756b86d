"""An offer: a signed artifact on its way to a robot, as one manifest, its signature and the files the robot may lack.

Nothing in it is trusted; decoding only counts and measures. A robot that has a file of the same hash already (the graph, a
frozen encoder) does not need it sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from poco.artifact import MANIFEST, MAX_FILE_BYTES, MAX_MANIFEST_BYTES, SIGNATURE, named_files, parse_manifest
from poco.refusal import Reason, Refused
from poco.trust import SIGNATURE_BYTES_MAX

VERSION = 1
FILES_MAX = 64
HEADER_BYTES_MAX = 1 << 14
FIXED_FRAMES = 3
"""Header, manifest and signature come before the files."""

FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class OfferHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """First frame of an offer; the files follow manifest and signature in the order of their names."""

    version: int
    files: Annotated[tuple[FileName, ...], msgspec.Meta(max_length=FILES_MAX)]


@dataclass(frozen=True, slots=True)
class Offer:
    """Bytes of a manifest, of its signature and of files by name; nothing about them is known to be true."""

    manifest: bytes
    signature: bytes
    files: Mapping[str, bytes]

    def frames(self) -> list[bytes]:
        """Return the offer as frames of one message."""
        header = OfferHeader(version=VERSION, files=tuple(self.files))
        return [msgspec.msgpack.encode(header), self.manifest, self.signature, *self.files.values()]


def decode_offer(frames: Sequence[bytes | memoryview], bytes_max: int = MAX_FILE_BYTES) -> Offer:
    """Return the offer in `frames`; raises Refused if it is malformed or has more than `bytes_max` altogether."""
    size = sum(len(frame) for frame in frames)
    if size > bytes_max:
        raise Refused(
            Reason.TOO_LARGE, f"the offer has {size} bytes, the limit is {bytes_max}: raise it or publish less"
        )
    if len(frames) < FIXED_FRAMES or len(frames[0]) > HEADER_BYTES_MAX:
        raise Refused(Reason.MALFORMED, f"the offer has {len(frames)} frames, at least {FIXED_FRAMES} are due")
    for frame, what, limit in (
        (frames[1], "manifest", MAX_MANIFEST_BYTES),
        (frames[2], "signature", SIGNATURE_BYTES_MAX),
    ):
        if len(frame) > limit:
            raise Refused(Reason.TOO_LARGE, f"the {what} of the offer has {len(frame)} bytes, the limit is {limit}")
    try:
        header = msgspec.msgpack.decode(frames[0], type=OfferHeader)
    except msgspec.MsgspecError as error:
        raise Refused(Reason.MALFORMED, f"the offer's header is malformed ({error})") from error
    if header.version != VERSION or len(set(header.files)) != len(header.files):
        raise Refused(
            Reason.MALFORMED, f"the offer has version {header.version} or names a file twice, expected v{VERSION}"
        )
    if len(frames) != FIXED_FRAMES + len(header.files):
        raise Refused(
            Reason.MALFORMED, f"the offer names {len(header.files)} files and has {len(frames) - FIXED_FRAMES}"
        )
    payloads = [bytes(frame) for frame in frames[FIXED_FRAMES:]]
    return Offer(bytes(frames[1]), bytes(frames[2]), dict(zip(header.files, payloads, strict=True)))


def read_offer(folder: Path, known: frozenset[str] = frozenset()) -> Offer:
    """Return the signed artifact in `folder` as an offer without the files whose sha256 is `known` to the robot.

    The publisher calls it; raises ArtifactError for a folder that holds no signed artifact.
    """
    for name in (MANIFEST, SIGNATURE):
        if not (folder / name).is_file():
            raise Refused(Reason.UNSIGNED, f"{folder} has no {name}: sign the artifact before offering it")
    manifest = (folder / MANIFEST).read_bytes()
    named = named_files(parse_manifest(manifest, str(folder)))
    files = {name: (folder / name).read_bytes() for name, digest in named.items() if digest not in known}
    return Offer(manifest, (folder / SIGNATURE).read_bytes(), files)
