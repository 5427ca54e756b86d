"""The robot's side of the link, fed with frames and time, over a journal on a real disk."""

from __future__ import annotations

from pathlib import Path

from poco.journal.disk import FolderDisk
from poco.journal.records import Noted
from poco.link.download import Download
from poco.link.messages import Acknowledged, Batch, Greet, Refused, Welcome, from_robot, pack
from poco.link.robot_side import BATCH_BYTES_MIN, BATCHES_UNDER_WAY, REFUSED_NS, SECOND_NS, RobotSide
from poco.runtime.journal import Journal
from poco.surroundings import RealSurroundings

HASH = "0" * 64
WINDOW_BYTES = 1 << 20


def side_over(folder: Path, entries: int) -> tuple[RobotSide, Journal]:
    """A link over a journal with so many entries in segments of a few."""
    journal = Journal(FolderDisk(folder), "arm", RealSurroundings(), quota_bytes=1 << 30, segment_bytes=500)
    for number in range(1, entries + 1):
        journal.append("policy", number, Noted(event="note", tick=number, generation=0, text="x" * 100))
        assert journal.commit()
    return RobotSide(journal, HASH, Download(0, lambda generation, content: None, 1 << 20)), journal


def batches(side: RobotSide, now_ns: int) -> int:
    """How many batches the side sends now."""
    sent = [from_robot(frames) for frames in side.poll(now_ns)]
    return sum(message is not None and isinstance(message[0], Batch) for message in sent)


def test_a_journal_that_can_be_read_again_is_not_complained_of(tmp_path: Path) -> None:
    """While a segment cannot be read the status says so; once it can everything is sent and nothing is said any more."""
    side, journal = side_over(tmp_path, 20)
    oldest = sorted(tmp_path.glob("*.seg"))[0]
    oldest.rename(tmp_path / "aside")
    assert side.poll(0)
    side.receive(pack(Welcome(journal=journal.identity, sequence=0, window_bytes=WINDOW_BYTES)), 0)
    assert batches(side, 0) == 0
    assert "the journal cannot be read (No such file or directory)" in side.status.trouble
    (tmp_path / "aside").rename(oldest)
    assert batches(side, SECOND_NS) > 1
    assert side.status.trouble == ""
    side.receive(pack(Acknowledged(journal=journal.identity, sequence=20, expected=21)), SECOND_NS)
    assert (side.status.waiting, side.status.acknowledged) == (0, 20)


def test_a_robot_that_is_refused_asks_again_on_the_same_connection(tmp_path: Path) -> None:
    """The next question comes before the silence would be taken for a lost connection."""
    side, _ = side_over(tmp_path, 1)
    assert not side.silent(0)
    assert side.poll(0)
    side.receive(pack(Refused(reason="start both from the same artifact")), 0)
    assert side.poll(REFUSED_NS - 1) == []
    assert len(side.poll(REFUSED_NS)) == 1
    assert not side.silent(REFUSED_NS)
    assert side.status.state == "refused"


def test_what_a_welcome_acknowledges_is_no_longer_under_way(tmp_path: Path) -> None:
    """A connection that is lost with the acknowledgement of all that may be under way: the next one goes on behind it."""
    side, journal = side_over(tmp_path, 400)
    side.poll(0)
    side.receive(pack(Welcome(journal=journal.identity, sequence=0, window_bytes=WINDOW_BYTES)), 0)
    assert batches(side, 0) == BATCHES_UNDER_WAY
    assert batches(side, 0) == 0
    taken = side._next - 1
    assert taken < journal.durable_sequence
    side.receive(pack(Greet()), 1)
    side.poll(1)
    side.receive(pack(Welcome(journal=journal.identity, sequence=taken, window_bytes=WINDOW_BYTES)), 1)
    assert batches(side, 1) > 0
    assert side._next > taken + 1


def test_no_more_is_under_way_than_the_line_takes(tmp_path: Path) -> None:
    """Twice as much where acknowledgements come at once, half where they take seconds, the least on another connection."""
    side, journal = side_over(tmp_path, 400)
    side.poll(0)
    side.receive(pack(Welcome(journal=journal.identity, sequence=0, window_bytes=WINDOW_BYTES)), 0)
    now_ns, most = 0, []
    for took_ns in (1, 1, 1, 1, 2 * SECOND_NS, 1):
        side.poll(now_ns)
        now_ns += took_ns
        side.receive(pack(Acknowledged(journal=journal.identity, sequence=side._next - 1, expected=side._next)), now_ns)
        most.append(side._pace.bytes // (2 * BATCH_BYTES_MIN))
    assert most == [2, 2, 4, 4, 2, 2]
    side.receive(pack(Greet()), now_ns)
    side.poll(now_ns)
    side.receive(pack(Welcome(journal=journal.identity, sequence=0, window_bytes=WINDOW_BYTES)), now_ns)
    assert side._pace.bytes == 2 * BATCH_BYTES_MIN
