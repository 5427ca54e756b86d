"""The learner's side of the link without any socket: fed with frames and time, it says what to send to whom.

An entry is taken in the order of its journal or not at all, and acknowledged once the inbox has it on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from poco.journal.segments import MAX_PAYLOAD_BYTES, Entry, decode
from poco.link.messages import (
    PARTS,
    PROTOCOL,
    Acknowledged,
    Batch,
    Fetch,
    Frames,
    FromLearner,
    Greet,
    Hello,
    Offered,
    Part,
    Ping,
    Refused,
    Welcome,
    from_robot,
    pack,
)

GONE_NS = 5_000_000_000
"""A robot says something every second; one that was not heard of for so long counts as gone."""

WINDOW_BYTES = 2 << 20
MAX_PENDING_BYTES = 64 << 20
MAX_ENTRY_BYTES = MAX_PAYLOAD_BYTES - (1 << 10)
"""The inbox keeps an entry with the names of robot and journal as one of its own."""

ROBOTS_MAX = 64
"""Without keys a name costs nothing and each leaves something behind: no more become known. Keys are somebody's to hand out."""

TOO_MANY = (
    f"it knows {ROBOTS_MAX} robots, as many as a learner without keys takes in one folder: use the robot.name of one of them, "
    "or give learner and robots keys (poco-keys init)"
)

Outgoing = tuple[bytes, list[bytes]]
"""A peer's routing identity and the frames for it."""


class Inbox(Protocol):
    """Where the learner keeps what it was sent."""

    @property
    def pending_bytes(self) -> int:
        """Bytes taken and not yet durable."""
        ...

    @property
    def generations(self) -> Mapping[str, int]:
        """Every robot that was met, and up to which generation it has seen policies."""
        ...

    def meet(self, robot: str, generation: int) -> None:
        """A robot is here, and has seen policies up to `generation`."""
        ...

    def taken(self, robot: str, journal: str) -> int:
        """Return the newest sequence number taken, durable or not."""
        ...

    def durable(self, robot: str, journal: str) -> int:
        """Return the newest sequence number that would survive a power cut."""
        ...

    def take(self, robot: str, journal: str, entries: Sequence[Entry]) -> None:
        """Take entries that follow what was taken before."""
        ...


@dataclass(slots=True)
class Session:
    """One connection that said Hello; `user` is the name of the key it authenticated with, `heard_ns` when it spoke last."""

    user: str
    robot: str
    journal: str
    heard_ns: int


class LearnerSide:
    """All robots of one learner."""

    def __init__(self, inbox: Inbox, specification_hash: str, *, authenticated: bool) -> None:
        """`authenticated`: connections have names, and a robot must have that of its key."""
        self._inbox, self._specification_hash, self._authenticated = inbox, specification_hash, authenticated
        self._sessions: dict[bytes, Session] = {}
        self._waiting: set[bytes] = set()
        self._snapshot = b""
        self._offered: Offered | None = None
        self._too_many_ns: int | None = None
        self.rejected = 0

    @property
    def sessions(self) -> list[Session]:
        """The robots that are connected, as far as is known: one that has vanished is among them until `forget_silent`."""
        return list(self._sessions.values())

    @property
    def trouble(self) -> str:
        """That robots are refused for their number, as long as they come; empty if none is."""
        return "" if self._too_many_ns is None else f"the learner refuses a robot: {TOO_MANY}"

    def receive(self, peer: bytes, user: str, frames: Frames, now_ns: int) -> list[Outgoing]:
        """Take one message of `peer`, which authenticated as `user`; return the answers. What is no message is counted only."""
        received = from_robot(frames)
        if received is None:
            self.rejected += 1
            return []
        message, content = received
        if isinstance(message, Hello):
            return [(peer, pack(self._hello(peer, user, message, now_ns)))]
        session = self._sessions.get(peer)
        if session is None or session.user != user:
            return [(peer, pack(Greet()))]
        session.heard_ns = now_ns
        match message:
            case Batch():
                return [(peer, pack(answer)) for answer in self._batch(peer, session, message, content)]
            case Ping():
                return [(peer, pack(answer)) for answer in self._pong(session, message)]
            case Fetch():
                return [(peer, pack(part, piece)) for part, piece in self._parts(message)]

    def _hello(self, peer: bytes, user: str, hello: Hello, now_ns: int) -> FromLearner:
        if hello.protocol != PROTOCOL:
            return Refused(
                reason=f"it speaks protocol {PROTOCOL}, the robot {hello.protocol}: install the same poco on both"
            )
        if self._authenticated and hello.robot != user:
            return Refused(
                reason=f"robot {hello.robot} came with the key of {user}: set robot.name to {user} there, or give it its own key"
            )
        if hello.specification_hash != self._specification_hash:
            return Refused(
                reason=f"it learns under specification {self._specification_hash[:12]}, the robot runs "
                f"{hello.specification_hash[:12]}: start both from the same artifact"
            )
        if not self._authenticated and self._is_one_too_many(hello.robot):
            self._too_many_ns = now_ns
            return Refused(reason=TOO_MANY)
        for other in [other for other, session in self._sessions.items() if session.robot == hello.robot]:
            del self._sessions[other]
        self._sessions[peer] = Session(user, hello.robot, hello.journal, now_ns)
        self._inbox.meet(hello.robot, hello.generation)
        sequence = self._inbox.durable(hello.robot, hello.journal)
        return Welcome(journal=hello.journal, sequence=sequence, window_bytes=WINDOW_BYTES)

    def _is_one_too_many(self, robot: str) -> bool:
        known = self._inbox.generations
        return robot not in known and len(known) >= ROBOTS_MAX

    def _batch(self, peer: bytes, session: Session, batch: Batch, content: bytes) -> list[FromLearner]:
        if batch.journal != session.journal:
            return [Greet()]
        entries = decode(content)
        if not entries or any(len(entry.payload) > MAX_ENTRY_BYTES for entry in entries):
            self.rejected += 1
            return []
        if self._inbox.pending_bytes > MAX_PENDING_BYTES:
            return []
        taken = self._inbox.taken(session.robot, session.journal)
        if entries[0].sequence > taken + 1:
            return [self._acknowledgement(session, gap=True)]
        new = [_from(entry, taken + 1) for entry in entries if entry.following > taken + 1]
        if not new:
            return [self._acknowledgement(session)]
        self._inbox.take(session.robot, session.journal, new)
        self._waiting.add(peer)
        return []

    def _pong(self, session: Session, ping: Ping) -> list[FromLearner]:
        self._inbox.meet(session.robot, ping.generation)
        lost = self._inbox.taken(session.robot, session.journal) < ping.sequence
        answers: list[FromLearner] = [self._acknowledgement(session, gap=lost)]
        if self._offered is not None and self._offered.generation > ping.generation:
            answers.append(self._offered)
        return answers

    def _parts(self, fetch: Fetch) -> list[tuple[Part, bytes]]:
        if self._offered is None or fetch.digest != self._offered.digest:
            return []
        end, part = min(fetch.offset + fetch.size, self._offered.size), -(-fetch.size // PARTS)
        offsets = range(fetch.offset, end, part)
        return [(Part(digest=fetch.digest, offset=one), self._snapshot[one : min(one + part, end)]) for one in offsets]

    def _acknowledgement(self, session: Session, *, gap: bool = False) -> Acknowledged:
        robot, journal = session.robot, session.journal
        durable, taken = self._inbox.durable(robot, journal), self._inbox.taken(robot, journal)
        return Acknowledged(journal=journal, sequence=durable, expected=taken + 1, gap=gap)

    def committed(self) -> list[Outgoing]:
        """The inbox has committed: return the acknowledgements that waited for it."""
        waiting, self._waiting = self._waiting, set()
        return [
            (peer, pack(self._acknowledgement(session)))
            for peer in sorted(waiting)
            if (session := self._sessions.get(peer)) is not None
        ]

    def publish(self, generation: int, content: bytes) -> list[Outgoing]:
        """Make `content` the newest snapshot, in place of any before; return the offers to all that are connected."""
        self._snapshot = content
        self._offered = Offered(generation=generation, digest=hashlib.sha256(content).hexdigest(), size=len(content))
        return [(peer, pack(self._offered)) for peer in sorted(self._sessions)]

    def forget(self, user: str) -> None:
        """The key of `user` is no longer welcome."""
        for peer in [peer for peer, session in self._sessions.items() if session.user == user]:
            del self._sessions[peer]

    def forget_silent(self, now_ns: int) -> None:
        """Let go of connections that were not heard of for GONE_NS; a robot that was only slow is asked to say Hello again."""
        for peer in [peer for peer, session in self._sessions.items() if now_ns - session.heard_ns > GONE_NS]:
            del self._sessions[peer]
        if self._too_many_ns is not None and now_ns - self._too_many_ns > GONE_NS:
            self._too_many_ns = None

    def forget_all(self) -> None:
        """Every connection was closed; the robots will come again."""
        self._sessions.clear()
        self._waiting.clear()


def _from(entry: Entry, sequence: int) -> Entry:
    """Return the part of `entry` that stands for `sequence` and what follows."""
    if entry.sequence >= sequence:
        return entry
    return Entry(sequence, entry.following - sequence, entry.payload)
