"""Peers that are not welcome: nothing of theirs comes in, nothing goes out to them, and who is welcome notices nothing."""

from __future__ import annotations

import os
import random
import socket as sockets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zmq

from link_run import keys_for, until
from poco.link import keys_cli
from poco.link.keys import KeyFolder
from poco.link.messages import MAX_FRAME_BYTES
from poco.link.sockets import Network, Server

TRIES = 300
BATCH = 30
SECRET = b"for the arm's eyes only"
KINDS = ("no key", "unknown key", "wrong server key", "revoked key", "garbage", "slow handshake", "oversized")


@dataclass
class Arena:
    """A server with keys, a good peer that numbers its messages, and what the server was given by whom."""

    folder: Path
    server: Server
    network: Network
    good: zmq.Socket[bytes]
    revoked: tuple[bytes, bytes]
    sent: int = 0
    echoed: int = 0
    received: list[bytes] = field(default_factory=list)
    strangers: Counter[str] = field(default_factory=Counter)

    def turn(self) -> int:
        """Let the good peer say the next number, the server answer everybody; return how often the good peer was answered."""
        if self.good.poll(0, zmq.POLLOUT):
            self.good.send(str(self.sent).encode(), zmq.NOBLOCK)
            self.sent += 1
        self.server.socket.poll(2)
        for peer, user, frames in self.server.receive():
            self.server.send(peer, [SECRET])
            if user == "arm1":
                self.received += frames
            else:
                self.strangers[user] += 1
        self.server.look_at_keys()
        while self.good.poll(0):
            assert self.good.recv() == SECRET
            self.echoed += 1
        return self.echoed

    def wait_for(self, echoes: int) -> None:
        """Go on until the good peer was answered so often."""
        until(lambda: self.turn() >= echoes, "for the good peer")

    @property
    def port(self) -> int:
        """Where the server listens."""
        return int(self.server.address.rpartition(":")[2])


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """A server at loopback with the welcome robots arm1 and arm2, of which arm2 was revoked."""
    learner, arm1 = keys_for(tmp_path, "arm1")
    public, secret = zmq.curve_keypair()
    folder = KeyFolder(learner)
    folder.add("arm2", public.decode())
    folder.revoke("arm2")
    serving, robot = Network(folder), Network(KeyFolder(arm1))
    server = Server(serving, "tcp://127.0.18.21:0")
    good = robot.connect(server.address, "learner")
    arena = Arena(tmp_path, server, robot, good, (public, secret))
    arena.wait_for(1)
    yield arena
    server.close()
    serving.close()
    robot.close()


class Stranger:
    """One try of one kind to say something and to hear something."""

    def __init__(self, arena: Arena, context: zmq.Context[zmq.Socket[bytes]], kind: str, draw: random.Random) -> None:
        self.kind = kind
        self.raw: sockets.socket | None = None
        self.socket: zmq.Socket[bytes] | None = None
        if kind in ("garbage", "slow handshake"):
            self.raw = sockets.create_connection(("127.0.18.21", arena.port))
            self.raw.setblocking(False)
            if kind == "garbage":
                greeting = (
                    b"\xff" + bytes(8) + b"\x7f\x03\x00" + draw.choice([b"NULL", b"CURVE", b"PLAIN"]).ljust(20, b"\0")
                )
                self.raw.send(greeting.ljust(64, b"\0") * draw.randrange(2) + draw.randbytes(draw.randrange(1, 4000)))
            else:
                self.raw.send(b"\xff"[: draw.randrange(2)])
            return
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        server_key = arena.network.keys.peer("learner").public.encode() if arena.network.keys else b""
        if kind != "no key":
            own = arena.revoked if kind == "revoked key" else zmq.curve_keypair()
            self.socket.curve_publickey, self.socket.curve_secretkey = own
            self.socket.curve_serverkey = server_key if kind != "wrong server key" else zmq.curve_keypair()[0]
        if kind == "oversized" and arena.network.keys is not None:
            mine = arena.network.keys.own()
            self.socket.curve_publickey, self.socket.curve_secretkey = mine.public.encode(), mine.secret.encode()
        self.socket.connect(arena.server.address)
        with suppress(zmq.Again):  # refused by then already
            self.socket.send(b"x" * (MAX_FRAME_BYTES + 1) if kind == "oversized" else draw.randbytes(20), zmq.NOBLOCK)

    def end(self) -> bytes:
        """Close and return the application bytes that came."""
        heard = b""
        if self.socket is not None:
            while self.socket.poll(0):
                heard += self.socket.recv()
            self.socket.close()
        if self.raw is not None:
            try:
                heard = self.raw.recv(1 << 16)
            except OSError:
                heard = b""
            self.raw.close()
            heard = heard if SECRET in heard else b""
        return heard


def attack(arena: Arena, count: int, seed: int) -> Counter[str]:
    """Let `count` strangers try, a batch at a time, while the good peer talks on; return the tries by kind."""
    draw = random.Random(seed)
    tried: Counter[str] = Counter()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.max_sockets = 4096
    while tried.total() < count:
        kinds = [KINDS[(tried.total() + number) % len(KINDS)] for number in range(BATCH)]
        strangers = [Stranger(arena, context, kind, draw) for kind in kinds]
        arena.wait_for(arena.echoed + 10)
        for stranger in strangers:
            assert stranger.end() == b"", stranger.kind
            tried[stranger.kind] += 1
    context.destroy(linger=0)
    until(lambda: arena.turn() == arena.sent, "for the last echoes")
    return tried


def check(arena: Arena, tried: Counter[str]) -> None:
    """Not a message of a stranger, every one of the good peer, in order."""
    assert set(tried) == set(KINDS)
    assert arena.strangers.total() == 0
    assert arena.received == [str(number).encode() for number in range(arena.sent)]


def test_strangers(arena: Arena) -> None:
    """300 tries of seven kinds."""
    check(arena, attack(arena, TRIES, 0))


@pytest.mark.proof
def test_ten_thousand_strangers(arena: Arena) -> None:
    """POCO_COUNT (10,000) tries."""
    count, seed = int(os.environ.get("POCO_COUNT", "10000")), int(os.environ.get("POCO_SEED", "1000"))
    tried = attack(arena, count, seed)
    check(arena, tried)
    print(f"\n{dict(tried)}: 0 application bytes either way, {arena.echoed} of {arena.sent} good messages answered")


def test_revoked_while_connected(tmp_path: Path) -> None:
    """From a second after `poco-keys revoke` on nothing is taken of that key nor sent to it, on a connection that was open."""
    learner, arm1 = keys_for(tmp_path, "arm1")
    arm2 = KeyFolder.create(tmp_path / "keys-arm2", "arm2")
    arm2.add("learner", KeyFolder(learner).own().public)
    keys_cli.add("arm2", arm2.own().public, learner)
    networks = [Network(KeyFolder(learner)), Network(KeyFolder(arm1)), Network(arm2)]
    server = Server(networks[0], "tcp://127.0.18.22:0")
    peers = {
        name: network.connect(server.address, "learner")
        for name, network in zip(("arm1", "arm2"), networks[1:], strict=True)
    }
    heard: Counter[str] = Counter()
    taken: Counter[str] = Counter()

    def turn() -> list[str]:
        for name, peer in peers.items():
            while peer.poll(0):
                peer.recv()
                heard[name] += 1
            if peer.poll(0, zmq.POLLOUT):
                peer.send(b"hello", zmq.NOBLOCK)
        server.socket.poll(5)
        for peer_name, user, _ in server.receive():
            taken[user] += 1
            server.send(peer_name, [SECRET])
        return server.look_at_keys()

    until(lambda: (turn(), min(heard["arm1"], heard["arm2"]) > 5)[1], "for both")
    keys_cli.revoke("arm2", learner)
    second_over_s = time.monotonic() + 1.0
    gone: list[str] = []
    while time.monotonic() < second_over_s:
        gone += turn()
    gone += turn()  # the first that begins after the second is over
    assert gone == ["arm2"]
    taken.clear()
    heard.clear()
    until(lambda: (turn(), heard["arm1"] > 50)[1], "for the good one")
    assert taken["arm2"] == heard["arm2"] == 0
    server.close()
    for network in networks:
        network.close()
