"""A robot behind a slow line: what waits for the learner gets there, each byte once, and so does what comes back."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path
from threading import Thread

import pytest

from link_run import LinkRun, finished, free_address, keys_for, steps_of, until
from poco.learner.link_server import LinkServer
from poco.link.keys import KeyFolder
from synthetic_run import specification

CHUNK_BYTES = 4096
HANDSHAKE_SHARE = 0.25
"""So much more than the journal may pass the line, for handshake, frames and signs of life."""


class SlowLine:
    """Passes connections on to a server, `bytes_per_s` each way, with little room for what is under way."""

    def __init__(self, address: str, server: str, bytes_per_s: int) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        to_host, to_port = server.removeprefix("tcp://").split(":")
        self._to = to_host, int(to_port)
        self.connections = self.up_bytes = 0
        self._bytes_per_s = bytes_per_s
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
        self._listener.bind((host, int(port)))
        self._listener.listen()
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                robot, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            learner = socket.socket()
            learner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
            learner.connect(self._to)
            Thread(target=self._pass_on, args=(robot, learner, True), daemon=True).start()
            Thread(target=self._pass_on, args=(learner, robot, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, up: bool) -> None:
        try:
            while content := source.recv(CHUNK_BYTES):
                to.sendall(content)
                self.up_bytes += len(content) if up else 0
                time.sleep(len(content) / self._bytes_per_s)
        except OSError:
            pass
        for end in (source, to):
            end.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()


@pytest.mark.parametrize(("bytes_per_s", "steps"), [(120_000, 800), (10_000, 100)])
def test_a_backlog_and_a_snapshot_pass_a_slow_line(bytes_per_s: int, steps: int, tmp_path: Path) -> None:
    """Nothing that is under way for seconds is taken for lost: one connection, no byte sent twice, both ways whole."""
    snapshot = random.Random(0).randbytes(3 * bytes_per_s)
    keys, robot_keys = keys_for(tmp_path, "arm1")
    server = LinkServer(tmp_path / "inbox", specification().digest(), "tcp://127.0.18.4:0", KeyFolder(keys))
    address = free_address("127.0.18.5")
    line = SlowLine(address, server.address, bytes_per_s)
    run = LinkRun(tmp_path, "arm1", address, robot_keys)
    try:
        run.writer.begin()
        run.writer.make(steps)
        run.writer.settle()
        server.publish(7, snapshot)
        journal_bytes = sum(file.stat().st_size for file in run.journal.glob("*.seg"))
        assert journal_bytes > 2 * bytes_per_s
        episodes = finished(server, run.writer.episode)
        assert [list(episode.steps) for episode in episodes] == steps_of(run.writer.offered)
        assert line.up_bytes < (1 + HANDSHAKE_SHARE) * journal_bytes
        until(lambda: any((tmp_path / "store-arm1" / "incoming").glob("*.offer")), "for the snapshot")
        (offer,) = (tmp_path / "store-arm1" / "incoming").glob("*.offer")
        assert offer.read_bytes() == snapshot
        assert line.connections == 1
        line.close()
        assert run.stop() == ""
    finally:
        run.process.kill()
        server.close()
