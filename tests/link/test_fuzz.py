"""Bytes of strangers: every decoder of journal, link and gate says no or gives a message, in bounded memory, and never raises."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from poco.artifact import MAX_MANIFEST_BYTES, parse_manifest
from poco.journal.records import Boot, Ended, Noted, Record, Stepped, Written, decode, encode
from poco.journal.segments import MAX_PAYLOAD_BYTES, Entry, scan, segment
from poco.journal.segments import decode as decode_frames
from poco.journal.segments import encode as encode_frame
from poco.learner.inbox import Met, Received, read_kept
from poco.link import messages
from poco.link.messages import MAX_FRAME_BYTES, MAX_HEADER_BYTES, from_learner, from_robot, pack
from poco.offer import Offer as PackedOffer
from poco.offer import unpack_offer
from poco.records import EpisodeEnd, Step, StepKey
from poco.refusal import Refused
from poco.runtime.entrance import PACKET_BYTES, Greeting, Offer, Receipt, Spool
from poco.runtime.link_core import read_packet
from poco.trust import Purpose, public_key, sign, verify
from programs import ARTIFACT
from synthetic_run import specification

FRAMES = 20_000
DIGEST = "0123456789abcdef" * 4

STEP = Step(
    key=StepKey("arm", 1, 2, 3),
    tick=150,
    generation=4,
    chunk_id=5,
    observation=[0.1] * 7,
    action_policy=[0.2] * 7,
    action_executed=[0.3] * 7,
    reward=-1.0,
)
END = EpisodeEnd(
    robot="arm",
    boot_epoch=1,
    episode=2,
    tick=900,
    final_observation=[0.5] * 7,
    outcome="success",
    terminated=True,
    truncated=False,
    labels={"operator": "one"},
)
SPECIFICATION = specification()
BOOT = Boot(
    robot="arm", boot_epoch=1, generation=4, specification=SPECIFICATION, specification_hash=SPECIFICATION.digest()
)
RECORDS: tuple[Record, ...] = (
    BOOT,
    Stepped(step=STEP),
    Ended(end=END),
    Noted(event="clip", tick=1, generation=4, text="bent"),
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
MANIFEST = (ARTIFACT / "manifest.json").read_bytes()
SIGNATURE = sign(MANIFEST, Purpose.ARTIFACT, KEY)
ENTRIES = [Entry(7 + n, 1, encode(Written("policy-1", n + 1, 1, 2, one))) for n, one in enumerate(RECORDS)]
GOOD: list[bytes] = [
    *(entry.payload for entry in ENTRIES),
    *(encode(Received("arm", "journal", entry.sequence, 1, entry.payload)) for entry in ENTRIES),
    encode(Met("arm", 4)),
    encode(Greeting("policy-1")),
    encode(Offer(1, RECORDS[1])),
    encode(Receipt(4, True, "")),
    MANIFEST,
    SIGNATURE,
    PackedOffer(MANIFEST, SIGNATURE, {"trained.safetensors": bytes(40), "golden.safetensors": b""}).pack(),
    b"".join(encode_frame(entry) for entry in ENTRIES),
    segment(7, b"head", ENTRIES),
    *(
        pack(message)[0]
        for message in (
            messages.Hello(
                protocol=1,
                robot="arm",
                journal="j",
                specification_hash="",
                generation=1,
                first_sequence=1,
                durable_sequence=9,
            ),
            messages.Batch(journal="j"),
            messages.Ping(generation=3, sequence=8),
            messages.Fetch(digest=DIGEST, offset=0, size=messages.FETCH_BYTES),
            messages.Welcome(journal="j", sequence=3, window_bytes=9),
            messages.Refused(reason="no"),
            messages.Greet(),
            messages.Acknowledged(journal="j", sequence=3, expected=4),
            messages.Offered(generation=3, digest=DIGEST, size=10),
            messages.Part(digest=DIGEST, offset=0),
        )
    ),
]
SWOLLEN = [
    (Written("policy-1", 1, 1, 2, BOOT if field in (b"low", b"rest_q") else Stepped(step=STEP)), field)
    for field in (b"observation", b"action_executed", b"low", b"rest_q")
]
"""Messages with a field whose list a stranger might make long."""

SIZES = (PACKET_BYTES, MAX_PAYLOAD_BYTES, MAX_FRAME_BYTES)
NASTY = (
    b"\x91" * 4000,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc1",
    b"\xd4" * 64,
)


def spooled(content: bytes) -> None:
    """A writer gets `content` as the answer of the link process."""
    Spool("writer").answered(content)


def judged(decoder: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """`decoder` of the gate, which says no by a reason."""

    def decoded(content: bytes) -> object:
        try:
            return decoder(content)
        except Refused:
            return None

    return decoded


DECODERS: dict[str, Callable[[bytes], object]] = {
    "record": decode,
    "inbox": read_kept,
    "batch": decode_frames,
    "segment": lambda content: scan(content, 7),
    "old segment": lambda content: scan(content, 7, 11),
    "from robot": lambda content: from_robot([content]),
    "from robot, two frames": lambda content: from_robot([content, content]),
    "from learner": lambda content: from_learner([content]),
    "from learner, two frames": lambda content: from_learner([content, content]),
    "receipt": spooled,
    "packet": read_packet,
    "offer": judged(unpack_offer),
    "manifest": judged(lambda content: parse_manifest(content, "a fuzzed offer")),
    "signature": judged(lambda content: verify(MANIFEST, content, Purpose.ARTIFACT, {public_key(KEY)})),
}
CAPS = {
    "record": MAX_PAYLOAD_BYTES,
    "inbox": MAX_PAYLOAD_BYTES,
    "receipt": PACKET_BYTES,
    "packet": PACKET_BYTES,
    "manifest": MAX_MANIFEST_BYTES,
}
"""What is larger does not reach these decoders; the others see frames of any size."""

LARGE_EVERY = 50
"""One in so many contents is as large as a frame may be."""


def swollen(message: msgspec.Struct, field: bytes, item: bytes, size: int) -> bytes:
    """`message` with the list behind the word `field` grown by one-byte numbers until it has `size` bytes."""
    raw = encode(message)
    place = raw.index(field) + len(field)
    count = size - len(raw) - 8
    return raw[:place] + b"\xdd" + count.to_bytes(4, "big") + item * count + raw[place + 1 :]


def large(draw: random.Random) -> bytes:
    """A content as large as may be: a good message with a long list, text or binary somewhere in it, or repeated and cut."""
    if draw.random() < 0.5:
        item = draw.choice([b"\x01", b"\x90", b"\xa0", b"\xc0"])
        return swollen(*draw.choice(SWOLLEN), item, draw.choice(SIZES))
    content, size = draw.choice(GOOD), draw.choice(SIZES)
    place, room = draw.randrange(len(content)), size - len(content) - 5
    header = draw.choice([b"\xdd", b"\xdb", b"\xc6", b"\xdf"]) + room.to_bytes(4, "big")
    grown = content[:place] + header + draw.choice([b"\x01", b"\x91", b"\xa0", b"a", b"["]) * room + content[place:]
    return draw.choice([grown, (content * (1 + size // len(content)))[:size]])


def mutated(draw: random.Random) -> bytes:
    """A good message with a few things done to it, or garbage."""
    if draw.random() < 0.05:
        return draw.randbytes(draw.randrange(200))
    content = bytearray(draw.choice(GOOD))
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(content) + 1)
        match draw.randrange(5):
            case 0 if content:
                content[place % len(content)] ^= 1 << draw.randrange(8)
            case 1:
                del content[place:]
            case 2:
                content[place:place] = draw.choice(NASTY)
            case 3:
                other = draw.choice(GOOD)
                content[place:] = other[draw.randrange(len(other)) :]
            case _:
                content[place : place + draw.randrange(9)] = draw.randbytes(draw.randrange(9))
    return bytes(content)


@contextmanager
def traced() -> Iterator[None]:
    """Count the memory of Python and msgspec meanwhile."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def decode_traced(decoder: Callable[[bytes], object], content: bytes) -> tuple[bool, int]:
    """Return whether `content` made sense to `decoder`, and how much memory (bytes) that took at most."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    taken = bool(decoder(content))
    return taken, tracemalloc.get_traced_memory()[1] - before


def fuzz(count: int, seed: int) -> tuple[int, int, int]:
    """Feed `count` frames to the decoders in turn; return how many were taken for a message, how many there were, most memory."""
    draw, taken, fed, most = random.Random(seed), 0, 0, 0
    with traced():
        while fed < count:
            content = large(draw) if draw.random() * LARGE_EVERY < 1 else mutated(draw)
            for name, decoder in DECODERS.items():
                try:
                    made_sense, used = decode_traced(decoder, content[: CAPS.get(name)])
                    assert used < 2 * MAX_FRAME_BYTES
                except BaseException as error:
                    error.add_note(f"seed {seed}, frame {fed}, {name}: {content[:1000]!r}")
                    raise
                taken, most, fed = taken + made_sense, max(most, used), fed + 1
    return taken, fed, most


def test_fuzzed_frames() -> None:
    """Mutated and random frames go through every decoder; most are refused, some make sense still."""
    taken, fed, _ = fuzz(FRAMES, 0)
    assert fed >= FRAMES
    assert 0 < taken < fed


@pytest.mark.proof
def test_a_million_fuzzed_frames() -> None:
    """POCO_COUNT (1,000,000) frames from seed POCO_SEED, none of which takes twice the largest frame of memory."""
    count, seed = int(os.environ.get("POCO_COUNT", "1000000")), int(os.environ.get("POCO_SEED", "1000"))
    taken, fed, most = fuzz(count, seed)
    print(
        f"\n{fed} fuzzed frames over {len(DECODERS)} decoders: 0 raised, {taken} made sense, "
        f"at most {most} bytes of memory for one (twice the cap: {2 * MAX_FRAME_BYTES})"
    )


@pytest.mark.parametrize(("message", "field"), SWOLLEN)
def test_memory_is_bounded(message: msgspec.Struct, field: bytes) -> None:
    """A list as long as a frame may be, where a small one belongs: refused, in less than twice the size of the largest frame."""
    content = swollen(message, field, b"\x01", MAX_PAYLOAD_BYTES)
    assert MAX_PAYLOAD_BYTES - 100 < len(content) <= MAX_PAYLOAD_BYTES
    with traced():
        taken, used = decode_traced(decode, content)
    assert not taken
    assert used < 2 * MAX_FRAME_BYTES


def test_oversized_frames_are_refused() -> None:
    """A header or content above the caps is no message, even a good one."""
    good = pack(messages.Batch(journal="j"))[0]
    assert from_robot([good, b"x" * MAX_FRAME_BYTES]) is not None
    assert from_robot([good, b"x" * (MAX_FRAME_BYTES + 1)]) is None
    assert from_robot([good.ljust(MAX_HEADER_BYTES + 1, b"\0"), b"x"]) is None
    assert from_robot([]) is None
    assert from_robot([good, b"x", b"x"]) is None
