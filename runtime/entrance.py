"""The way into the journal for policy process and supervisor: never blocks, never raises, forgets nothing until it is durable.

Records are numbered and kept in memory until the link process says that they are on the disk; when it dies and comes back they are
offered again. When the memory is full the newest are lost, their numbers are skipped, and the journal says how many there were.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import deque
from typing import TypeAlias

import msgspec

from poco.journal.records import UNREADABLE, Record, encode

MAX_WAITING_BYTES = 64 << 20
START_SHARE = 0.5
PACKET_BYTES = 128 << 10
RETRY_OFFERS = 10
SETTLE_POLL_S = 0.005

_CREDENTIALS = struct.Struct("3i")


class Greeting(msgspec.Struct, frozen=True, array_like=True, tag="greeting"):
    """A writer introduces itself; the answer is a Receipt."""

    writer: str


class Offer(msgspec.Struct, frozen=True, array_like=True, tag="offer"):
    """Record `number` of the writer, which counts from 1."""

    number: int
    record: Record


class Receipt(msgspec.Struct, frozen=True, array_like=True, tag="receipt"):
    """The writer's records up to `number` are durable; whether there is room for a new episode, and if not, why."""

    number: int
    may_start: bool
    trouble: str


Packet: TypeAlias = Greeting | Offer

_receipt = msgspec.msgpack.Decoder(Receipt)


class Spool:
    """What a writer offered and what of it is not yet durable; no socket in here."""

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.lost = 0
        self._number = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._sent = 0
        self._receipt = Receipt(0, True, "")

    def offer(self, record: Record) -> None:
        """Take `record`; if the memory is full it is lost, and counted."""
        self._number += 1
        packet = encode(Offer(self._number, record))
        if self._bytes + len(packet) > MAX_WAITING_BYTES:
            self.lost += 1
            return
        self._waiting.append((self._number, packet))
        self._bytes += len(packet)

    def greet(self) -> bytes:
        """A connection begins: return its first packet. All that waits is offered again."""
        self._sent = 0
        return encode(Greeting(self.writer))

    def next_packet(self) -> bytes | None:
        """Return the next packet to send, None if all have been sent."""
        return self._waiting[self._sent][1] if self._sent < len(self._waiting) else None

    def sent(self) -> None:
        """The packet that `next_packet` gave was sent."""
        self._sent += 1

    def answered(self, packet: bytes) -> None:
        """Take a receipt; anything else changes nothing."""
        try:
            self._receipt = _receipt.decode(packet)
        except UNREADABLE:
            return
        while self._waiting and self._waiting[0][0] <= self._receipt.number:
            self._bytes -= len(self._waiting.popleft()[1])
            self._sent = max(self._sent - 1, 0)

    @property
    def waiting(self) -> int:
        """Number of records that are not yet durable."""
        return len(self._waiting)

    @property
    def trouble(self) -> str:
        """Why no new episode may begin; empty if one may."""
        if not self._receipt.may_start:
            return self._receipt.trouble
        if self._bytes > START_SHARE * MAX_WAITING_BYTES:
            return f"{self._bytes} bytes wait for the journal: see link.log in the run folder"
        return ""


class Entrance:
    """A writer's connection to the link process of run `name`; used by one thread of the writing process."""

    def __init__(self, name: str, writer: str) -> None:
        self.spool = Spool(writer)
        self._address = address_of(name)
        self._socket: socket.socket | None = None
        self._patience = 0

    def offer(self, record: Record) -> None:
        """Hand `record` to the journal, now or later; returns at once whatever the state of link process and disk."""
        self.spool.offer(record)
        self.pump()

    def pump(self) -> None:
        """Send what can be sent and take receipts, without waiting."""
        if self._socket is None and not self._connect():
            return
        try:
            self._exchange(self._socket)
        except BlockingIOError:
            return
        except OSError:
            self._disconnect()

    def _exchange(self, connection: socket.socket | None) -> None:
        assert connection is not None
        try:
            while True:
                answer = connection.recv(PACKET_BYTES)
                if not answer:
                    raise ConnectionResetError
                self.spool.answered(answer)
        except BlockingIOError:
            pass
        while (packet := self.spool.next_packet()) is not None:
            connection.send(packet)
            self.spool.sent()

    def _connect(self) -> bool:
        """Try to connect, but not at every call: the link process may be gone for long."""
        self._patience -= 1
        if self._patience > 0:
            return False
        self._patience = RETRY_OFFERS
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connection.connect(self._address)
            if peer_user(connection) != os.getuid():
                raise PermissionError
            connection.send(self.spool.greet())
        except OSError:
            connection.close()
            return False
        self._socket, self._patience = connection, 0
        return True

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def settle(self, patience_s: float) -> bool:
        """Wait until everything offered is durable, at most `patience_s`; only where nothing moves. Tell whether it is."""
        deadline_s = time.monotonic() + patience_s
        self.pump()
        while self.spool.waiting and time.monotonic() < deadline_s:
            time.sleep(SETTLE_POLL_S)
            self.pump()
        return not self.spool.waiting


def address_of(name: str) -> bytes:
    """Return the abstract local address at which the link process of run `name` listens; it goes when the process does."""
    return b"\0poco-link-" + name.encode()


def peer_user(connection: socket.socket) -> int:
    """Return the user whose process is at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user
