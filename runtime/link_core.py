"""What the link process does, without any socket: records come in, are committed in groups, receipts go out."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

from poco.journal.records import UNREADABLE, encode
from poco.runtime.entrance import Greeting, Packet, Receipt
from poco.runtime.journal import Journal

GROUP_NS = 40_000_000
"""How long a record may wait for others before it is committed; with the time of one fdatasync it is what a receipt takes."""

MAX_PENDING_BYTES = 8 << 20
"""Above it nothing more is taken from the writers, who keep it: the disk does not take what there is."""

REFRESH_NS = 500_000_000
REMEDY = "start the learner or raise journal.quota_bytes"

C = TypeVar("C", bound=Hashable)

_packet: msgspec.msgpack.Decoder[Packet] = msgspec.msgpack.Decoder(Packet)


def read_packet(packet: bytes) -> Packet | None:
    """Return what a writer sent; None for anything else, whatever it is."""
    try:
        return _packet.decode(packet)
    except UNREADABLE:
        return None


class LinkCore(Generic[C]):
    """Writers (known by connections C), the journal and their receipts."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._writers: dict[C, str] = {}
        self._told: dict[C, tuple[Receipt, int]] = {}
        self._due_ns: int | None = None
        self._room_ns = 0

    @property
    def willing(self) -> bool:
        """Whether more is to be read from the writers."""
        return self.journal.pending_bytes < MAX_PENDING_BYTES

    def receive(self, connection: C, packet: bytes) -> bool:
        """Take a packet of a writer; False for one that makes no sense, whose connection is to be closed."""
        message = read_packet(packet)
        if message is None:
            return False
        if isinstance(message, Greeting):
            self._writers[connection] = message.writer
            return True
        writer = self._writers.get(connection)
        if writer is None or message.number < 1:
            return False
        self.journal.append(writer, message.number, message.record)
        return True

    def closed(self, connection: C) -> None:
        """A connection is gone."""
        self._writers.pop(connection, None)
        self._told.pop(connection, None)

    def poll(self, now_ns: int) -> list[tuple[C, bytes]]:
        """Commit if it is time to, keep within the quota; return the receipts to send."""
        if self._due_ns is None and self.journal.pending_bytes:
            self._due_ns = now_ns + GROUP_NS
        if self._due_ns is not None and now_ns >= self._due_ns and self.journal.commit():
            self._due_ns = None
        if now_ns >= self._room_ns:
            self._room_ns = now_ns + REFRESH_NS
            self.journal.make_room()
        return self._receipts(now_ns)

    @property
    def may_start(self) -> bool:
        """Whether there is room for a new episode."""
        return self.journal.status.state in ("recording", "nearly full")

    @property
    def trouble(self) -> str:
        """Why there is no room, empty if there is."""
        status = self.journal.status
        if status.state != "full":
            return status.trouble and f"no new episode begins, {status.trouble}"
        room = f"({status.used_bytes} of {status.quota_bytes} bytes)"
        if self.journal.drops:
            return f"no new episode begins, the journal is full {room} and nothing in it may be dropped: {REMEDY}"
        return (
            f"no new episode begins, the journal is full {room}: {REMEDY}, or set journal.when_full to drop_autonomous"
        )

    @property
    def warning(self) -> str:
        """What is to be known while there is still room, empty if there is enough."""
        status = self.journal.status
        if status.state != "nearly full":
            return ""
        follows = "the oldest autonomous episodes are dropped" if self.journal.drops else "no new episode begins"
        return f"the journal is nearly full ({status.used_bytes} of {status.quota_bytes} bytes), at the quota {follows}: {REMEDY}"

    def _receipts(self, now_ns: int) -> list[tuple[C, bytes]]:
        may_start, trouble = self.may_start, self.trouble
        receipts = []
        for connection, writer in self._writers.items():
            receipt = Receipt(self.journal.receipts.get(writer, 0), may_start, trouble)
            told, told_ns = self._told.get(connection, (None, 0))
            if receipt != told or now_ns - told_ns > REFRESH_NS:
                self._told[connection] = receipt, now_ns
                receipts.append((connection, encode(receipt)))
        return receipts
