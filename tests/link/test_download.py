"""Snapshots on their way to a robot: the newest word of the learner counts."""

from __future__ import annotations

import hashlib

from poco.link.download import RETRY_NS, Download
from poco.link.messages import FETCH_BYTES, PART_BYTES, Fetch, Offered, Part

MOST = 4 * FETCH_BYTES


def offered(generation: int, content: bytes) -> Offered:
    """The offer of `content`."""
    return Offered(generation=generation, digest=hashlib.sha256(content).hexdigest(), size=len(content))


def test_a_snapshot_that_nobody_has_any_more_gives_way() -> None:
    """A learner that lost its folder offers a lower generation than was under way: that one is fetched, not the dead one."""
    taken: list[tuple[int, bytes]] = []
    download = Download(5, lambda *snapshot: taken.append(snapshot), MOST)
    lost, new = bytes(2 * PART_BYTES), b"new"
    download.offer(offered(9, lost))
    assert download.poll(0) == Fetch(digest=offered(9, lost).digest, offset=0)
    download.arrived(Part(digest=offered(9, lost).digest, offset=0), lost[:PART_BYTES])
    download.offer(offered(9, lost))
    download.offer(offered(5, b"old"))
    assert download.poll(1) is None
    assert download.poll(2 + RETRY_NS) == Fetch(digest=offered(9, lost).digest, offset=PART_BYTES)
    download.offer(offered(6, new))
    assert download.poll(3 + RETRY_NS) == Fetch(digest=offered(6, new).digest, offset=0)
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
    download.arrived(Part(digest=torn.digest, offset=0), b"where")
    download.offer(torn)
    assert (taken, download.refused, download.generation, download.poll(RETRY_NS)) == ([], 2, 3, None)


def test_parts_that_come_slowly_are_not_asked_for_again() -> None:
    """One question is answered by many parts; as long as they come in time no other is put, then the next at once."""
    content = bytes(range(256)) * (2 * FETCH_BYTES // 256)
    taken: list[tuple[int, bytes]] = []
    download, digest = Download(1, lambda *snapshot: taken.append(snapshot), MOST), offered(2, content).digest
    download.offer(offered(2, content))
    asked = []
    for number, offset in enumerate(range(0, len(content), PART_BYTES)):
        if (fetch := download.poll(number * (RETRY_NS - 1))) is not None:
            asked.append(fetch.offset)
        download.arrived(Part(digest=digest, offset=offset), content[offset : offset + PART_BYTES])
    assert (asked, taken) == ([0, FETCH_BYTES], [(2, content)])
