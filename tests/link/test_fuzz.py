"""Bytes of strangers: every decoder of journal and link says no or gives a message, in bounded memory, and never raises."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest

from poco.journal.records import Boot, Ended, Noted, Record, Stepped, Written, decode, encode
from poco.journal.segments import MAX_PAYLOAD_BYTES, Entry, scan, segment
from poco.journal.segments import decode as decode_frames
from poco.journal.segments import encode as encode_frame
from poco.learner.inbox import Met, Received, read_kept
from poco.link import messages
from poco.link.messages import MAX_FRAME_BYTES, MAX_HEADER_BYTES, from_learner, from_robot, pack
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.entrance import Greeting, Offer, Receipt, Spool
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
ENTRIES = [Entry(7 + n, 1, encode(Written("policy-1", n + 1, 1, 2, one))) for n, one in enumerate(RECORDS)]
GOOD: list[bytes] = [
    *(entry.payload for entry in ENTRIES),
    *(encode(Received("arm", "journal", entry.sequence, 1, entry.payload)) for entry in ENTRIES),
    encode(Met("arm", 4)),
    encode(Greeting("policy-1")),
    encode(Offer(1, RECORDS[1])),
    encode(Receipt(4, True, "")),
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
            messages.Ping(generation=3),
            messages.Fetch(digest=DIGEST, offset=0),
            messages.Welcome(journal="j", sequence=3, window_bytes=9),
            messages.Refused(reason="no"),
            messages.Greet(),
            messages.Acknowledged(journal="j", sequence=3, expected=4),
            messages.Offered(generation=3, digest=DIGEST, size=10),
            messages.Part(digest=DIGEST, offset=0),
        )
    ),
]
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
}


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


def fuzz(count: int, seed: int) -> tuple[int, int]:
    """Feed `count` frames to the decoders in turn; return how many were taken for a message, and how many there were."""
    draw, taken, fed = random.Random(seed), 0, 0
    while fed < count:
        content = mutated(draw)
        for name, decoder in DECODERS.items():
            try:
                taken += bool(decoder(content))
            except BaseException as error:
                error.add_note(f"seed {seed}, frame {fed}, {name}: {content!r}")
                raise
            fed += 1
    return taken, fed


def test_fuzzed_frames() -> None:
    """Mutated and random frames go through every decoder; most are refused, some make sense still."""
    taken, fed = fuzz(FRAMES, 0)
    assert fed >= FRAMES
    assert 0 < taken < fed


@pytest.mark.proof
def test_a_million_fuzzed_frames() -> None:
    """POCO_COUNT (1,000,000) frames from seed POCO_SEED."""
    count, seed = int(os.environ.get("POCO_COUNT", "1000000")), int(os.environ.get("POCO_SEED", "1000"))
    taken, fed = fuzz(count, seed)
    print(f"\n{fed} fuzzed frames over {len(DECODERS)} decoders: 0 raised, {taken} made sense")


def swollen(message: msgspec.Struct, field: bytes, item: bytes, size: int) -> bytes:
    """`message` with the list behind the word `field` grown by one-byte numbers until it has `size` bytes."""
    raw = encode(message)
    place = raw.index(field) + len(field)
    count = size - len(raw) - 8
    return raw[:place] + b"\xdd" + count.to_bytes(4, "big") + item * count + raw[place + 1 :]


@pytest.mark.parametrize("field", [b"observation", b"action_executed", b"low", b"rest_q"])
def test_memory_is_bounded(field: bytes) -> None:
    """A list as long as a frame may be, where a small one belongs: refused, in less than twice the size of the largest frame."""
    record = BOOT if field in (b"low", b"rest_q") else Stepped(step=STEP)
    content = swollen(Written("policy-1", 1, 1, 2, record), field, b"\x01", MAX_PAYLOAD_BYTES)
    assert MAX_PAYLOAD_BYTES - 100 < len(content) <= MAX_PAYLOAD_BYTES
    tracemalloc.start()
    try:
        assert decode(content) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_FRAME_BYTES


def test_oversized_frames_are_refused() -> None:
    """A header or content above the caps is no message, even a good one."""
    good = pack(messages.Batch(journal="j"))[0]
    assert from_robot([good, b"x" * MAX_FRAME_BYTES]) is not None
    assert from_robot([good, b"x" * (MAX_FRAME_BYTES + 1)]) is None
    assert from_robot([good.ljust(MAX_HEADER_BYTES + 1, b"\0"), b"x"]) is None
    assert from_robot([]) is None
    assert from_robot([good, b"x", b"x"]) is None
