"""The learner's side of the link, fed with frames."""

from __future__ import annotations

from lossy_disk import LossyDisk
from poco.journal.segments import MAX_PAYLOAD_BYTES, Entry, encode
from poco.learner.inbox import LogInbox
from poco.link.learner_side import LearnerSide
from poco.link.messages import PROTOCOL, Batch, Hello, pack

ROBOT, JOURNAL, PEER, HASH = "r" * 64, "\U0001f9be" * 64, b"peer", "0" * 64


def test_an_entry_that_the_inbox_could_not_keep_is_refused() -> None:
    """An entry as large as a frame allows does not fit into the inbox' own: it is counted, and what is smaller is taken still."""
    inbox = LogInbox(LossyDisk(0), HASH)
    side = LearnerSide(inbox, HASH, authenticated=False)
    hello = Hello(
        protocol=PROTOCOL,
        robot=ROBOT,
        journal=JOURNAL,
        specification_hash=HASH,
        generation=0,
        first_sequence=1,
        durable_sequence=2,
    )
    side.receive(PEER, "", pack(hello))
    content = encode(Entry(1, 1, b"x")) + encode(Entry(2, 1, bytes(MAX_PAYLOAD_BYTES)))
    assert side.receive(PEER, "", pack(Batch(journal=JOURNAL), content)) == []
    assert (side.rejected, inbox.taken(ROBOT, JOURNAL)) == (1, 0)
    for sequence, size in enumerate((1, MAX_PAYLOAD_BYTES - (1 << 10)), start=1):
        side.receive(PEER, "", pack(Batch(journal=JOURNAL), encode(Entry(sequence, 1, bytes(size)))))
        assert inbox.commit()
        assert inbox.durable(ROBOT, JOURNAL) == sequence
