"""The learner's side of the link, fed with frames."""

from __future__ import annotations

from lossy_disk import LossyDisk
from poco.journal.segments import MAX_PAYLOAD_BYTES, Entry, encode
from poco.learner.inbox import LogInbox
from poco.link.learner_side import GONE_NS, LearnerSide
from poco.link.messages import PROTOCOL, Acknowledged, Batch, Greet, Hello, Ping, pack

ROBOT, JOURNAL, PEER, HASH = "r" * 64, "\U0001f9be" * 64, b"peer", "0" * 64


HELLO = Hello(
    protocol=PROTOCOL,
    robot=ROBOT,
    journal=JOURNAL,
    specification_hash=HASH,
    generation=0,
    first_sequence=1,
    durable_sequence=2,
)


def test_a_robot_that_says_nothing_is_not_connected() -> None:
    """One that pings stays; one that is silent is let go after a while, and asked who it is when it speaks again."""
    side = LearnerSide(LogInbox(LossyDisk(0), HASH), HASH, authenticated=False)
    side.receive(PEER, "", pack(HELLO), 0)
    for now_ns in range(0, 3 * GONE_NS, GONE_NS):
        side.receive(PEER, "", pack(Ping(generation=0, sequence=0)), now_ns)
        side.forget_silent(now_ns + GONE_NS)
        assert [session.robot for session in side.sessions] == [ROBOT]
    side.forget_silent(3 * GONE_NS + 1)
    assert side.sessions == []
    assert side.receive(PEER, "", pack(Ping(generation=0, sequence=0)), 4 * GONE_NS) == [(PEER, pack(Greet()))]


def test_a_ping_tells_what_was_lost_before_it() -> None:
    """Where less came than had been sent before it, the answer asks for the rest; else it acknowledges only."""
    side = LearnerSide(LogInbox(LossyDisk(0), HASH), HASH, authenticated=False)
    side.receive(PEER, "", pack(HELLO), 0)
    side.receive(PEER, "", pack(Batch(journal=JOURNAL), encode(Entry(1, 1, b"x"))), 0)
    for sent, lost in ((1, False), (2, True)):
        acknowledged = Acknowledged(journal=JOURNAL, sequence=0, expected=2, gap=lost)
        assert side.receive(PEER, "", pack(Ping(generation=0, sequence=sent)), 0) == [(PEER, pack(acknowledged))]


def test_an_entry_that_the_inbox_could_not_keep_is_refused() -> None:
    """An entry as large as a frame allows does not fit into the inbox' own: it is counted, and what is smaller is taken still."""
    inbox = LogInbox(LossyDisk(0), HASH)
    side = LearnerSide(inbox, HASH, authenticated=False)
    side.receive(PEER, "", pack(HELLO), 0)
    content = encode(Entry(1, 1, b"x")) + encode(Entry(2, 1, bytes(MAX_PAYLOAD_BYTES)))
    assert side.receive(PEER, "", pack(Batch(journal=JOURNAL), content), 0) == []
    assert (side.rejected, inbox.taken(ROBOT, JOURNAL)) == (1, 0)
    for sequence, size in enumerate((1, MAX_PAYLOAD_BYTES - (1 << 10)), start=1):
        side.receive(PEER, "", pack(Batch(journal=JOURNAL), encode(Entry(sequence, 1, bytes(size)))), 0)
        assert inbox.commit()
        assert inbox.durable(ROBOT, JOURNAL) == sequence
