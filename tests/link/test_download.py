"""Snapshots on their way to a robot: the newest word of the learner counts."""

from __future__ import annotations

import hashlib

from poco.link.download import RETRY_NS, Download
from poco.link.messages import FETCH_BYTES, FETCH_BYTES_MIN, PARTS, Fetch, Offered, Part
from poco.link.pace import SLOW_NS

MOST = 4 * FETCH_BYTES
PART_BYTES = FETCH_BYTES_MIN // PARTS


def offered(generation: int, content: bytes) -> Offered:
    """The offer of `content`."""
    return Offered(generation=generation, digest=hashlib.sha256(content).hexdigest(), size=len(content))


def test_a_snapshot_that_nobody_has_any_more_gives_way() -> None:
    """A learner that lost its folder offers a lower generation than was under way: that one is fetched, not the dead one."""
    taken: list[tuple[int, bytes]] = []
    download = Download(5, lambda *snapshot: taken.append(snapshot), MOST)
    lost, new = bytes(2 * PART_BYTES), b"new"
    download.offer(offered(9, lost))
    assert download.poll(0) == Fetch(digest=offered(9, lost).digest, offset=0, size=FETCH_BYTES_MIN)
    download.arrived(Part(digest=offered(9, lost).digest, offset=0), lost[:PART_BYTES])
    download.offer(offered(9, lost))
    download.offer(offered(5, b"old"))
    assert download.poll(1) is None
    assert download.poll(2 + RETRY_NS) == Fetch(digest=offered(9, lost).digest, offset=PART_BYTES, size=FETCH_BYTES_MIN)
    download.offer(offered(6, new))
    assert download.poll(3 + RETRY_NS) == Fetch(digest=offered(6, new).digest, offset=0, size=FETCH_BYTES_MIN)
    download.arrived(Part(digest=offered(6, new).digest, offset=0), new)
    assert (taken, download.generation, download.poll(4 + 2 * RETRY_NS)) == ([(6, new)], 6, None)


def test_what_is_too_large_or_torn_is_refused_once() -> None:
    """A snapshot beyond the limit is not fetched, one whose bytes are others than announced not taken; neither comes again."""
    taken: list[tuple[int, bytes]] = []
    download = Download(1, lambda *snapshot: taken.append(snapshot), MOST)
    for _ in range(2):
        download.offer(Offered(generation=2, digest="0" * 64, size=MOST + 1))
        assert download.poll(0) is None
    torn = offered(3, b"whole")
    download.offer(torn)
    assert download.poll(0) is not None
    download.arrived(Part(digest=torn.digest, offset=0), b"where")
    download.offer(torn)
    assert (taken, download.refused, download.generation, download.poll(RETRY_NS)) == ([], 2, 3, None)


def fetched(download: Download, content: bytes, part_ns: int, now_ns: int = 0) -> list[tuple[int, int]]:
    """Answer what `download` asks for from `now_ns` on, a part every `part_ns`; where and how much it asked for."""
    asked, generation = [], download.generation
    while download.generation == generation:
        fetch = download.poll(now_ns)
        assert fetch is not None
        asked.append((fetch.offset, fetch.size))
        end, part = min(fetch.offset + fetch.size, len(content)), fetch.size // PARTS
        for offset in range(fetch.offset, end, part):
            now_ns += part_ns
            assert download.poll(now_ns - 1) is None
            download.arrived(Part(digest=fetch.digest, offset=offset), content[offset : min(offset + part, end)])
    return asked


def test_parts_that_come_slowly_are_not_asked_for_again() -> None:
    """One question is answered by many parts; as long as they come in time no other is put, then the next, no larger, at once."""
    content = bytes(range(256)) * (3 * FETCH_BYTES_MIN // 256)
    taken: list[tuple[int, bytes]] = []
    download = Download(1, lambda *snapshot: taken.append(snapshot), MOST)
    download.offer(offered(2, content))
    offsets = range(0, len(content), FETCH_BYTES_MIN)
    assert fetched(download, content, RETRY_NS - 1) == [(offset, FETCH_BYTES_MIN) for offset in offsets]
    assert taken == [(2, content)]


def test_a_fast_line_is_asked_for_more_at_a_time() -> None:
    """Twice as much with every other answer that is there at once, up to the limit; after one that took long, half of it."""
    content = bytes(range(256)) * (MOST // 256)
    taken: list[tuple[int, bytes]] = []
    download = Download(1, lambda *snapshot: taken.append(snapshot), MOST)
    download.offer(offered(2, content))
    sizes = [size for _, size in fetched(download, content, 1)]
    assert sizes[:14:2] == [min(FETCH_BYTES_MIN << count, FETCH_BYTES) for count in range(7)]
    download.offer(offered(3, content[:-1]))
    sizes = [size for _, size in fetched(download, content[:-1], SLOW_NS // PARTS + 1, MOST)]
    assert sizes[:14:2] == [max(FETCH_BYTES >> count, FETCH_BYTES_MIN) for count in range(7)]
    assert taken == [(2, content), (3, content[:-1])]
