"""Segments: what was written comes back, what does not check never does, and a cut is told from damage."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from poco.journal.segments import DAMAGED, MARK, Entry, Scan, decode, encode, scan, segment

PAYLOADS = st.lists(st.binary(max_size=60) | st.just(MARK * 3), min_size=1, max_size=12)


def entries_of(payloads: list[bytes], first: int = 5) -> list[Entry]:
    return [Entry(first + number, 1, payload) for number, payload in enumerate(payloads)]


def batches(entries: list[Entry], size: int) -> bytes:
    """Frames as commits of `size` entries write them."""
    first = entries[0].sequence
    durable = [first + (number // size) * size - 1 for number in range(len(entries))]
    return b"".join(encode(entry, entry.sequence - known) for entry, known in zip(entries, durable, strict=True))


@given(PAYLOADS, st.binary(max_size=20))
def test_whole_segment_comes_back(payloads: list[bytes], head: bytes) -> None:
    """Head and entries come back whatever they hold, marks of frames included; on the wire too."""
    entries = entries_of(payloads)
    content = segment(5, head, entries)
    assert scan(content, 5) == Scan(head, tuple(entries), len(content))
    assert decode(b"".join(map(encode, entries))) == tuple(entries)


@given(PAYLOADS, st.integers(1, 4), st.data())
def test_torn_end(payloads: list[bytes], size: int, data: st.DataObject) -> None:
    """Cut anywhere, a segment gives exactly the entries whose frames are whole; the cut is where the next one may be written."""
    entries = entries_of(payloads)
    content = segment(5, b"head") + batches(entries, size)
    kept = data.draw(st.integers(0, len(content)))
    found = scan(content[:kept], 5)
    assert found.entries == tuple(entries[: len(found.entries)])
    assert found.good_bytes <= kept
    if found.head:
        assert scan(content[: found.good_bytes], 5) == found
        assert len(found.entries) == len(entries) or kept < len(content)


@given(PAYLOADS, st.integers(1, 4), st.data())
def test_flipped_bit(payloads: list[bytes], size: int, data: st.DataObject) -> None:
    """A flipped bit never gives a wrong entry; if later entries prove that it had been durable, only the one it hit is lost."""
    entries = entries_of(payloads)
    content = bytearray(segment(5, b"head") + batches(entries, size))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    found = scan(bytes(content), 5)
    real = [entry for entry in found.entries if entry.payload != DAMAGED or entry in entries]
    assert set(real) <= set(entries)
    last = (len(entries) - 1) // size * size
    lost = [number for number, entry in enumerate(entries) if entry not in real]
    assert all(number >= last for number in lost) or len(lost) == 1


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    """Bytes that no log wrote give no entry, at either door."""
    assert scan(content, 1).entries == ()
    assert decode(MARK + content) is None


def test_entries_beyond_the_next_segment_do_not_count() -> None:
    """What a failed commit left behind is superseded by the segment that begins at the same number."""
    entries = entries_of([b"a", b"b", b"c"])
    assert scan(segment(5, b"", entries), 5, 7).entries == tuple(entries[:2])
