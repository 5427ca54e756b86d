"""The link process: writes the journal of a run and streams it to the learner, so that the policy never waits for either.

Started by the supervisor as `python -m poco.runtime.link`. It may be killed, stopped or without a disk at any time: the policy
keeps what is not yet durable and offers it again.
"""

from __future__ import annotations

import argparse
import os
import signal as signals
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec
import zmq

from poco.clock import monotonic_ns
from poco.errors import PocoError, exit_with, guard
from poco.journal.disk import FolderDisk
from poco.link.download import Download
from poco.link.keys import LEARNER, KeyFolder
from poco.link.robot_side import LinkStatus, RobotSide
from poco.link.sockets import Network
from poco.runtime.entrance import PACKET_BYTES, address_of, peer_user
from poco.runtime.incoming import leave_offer
from poco.runtime.journal import Journal, JournalStatus
from poco.runtime.link_core import LinkCore
from poco.runtime.process_arguments import process_arguments
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import RunOptions
from poco.runtime.store import ArtifactStore
from poco.surroundings import RealSurroundings

POLL_MS = 10
STATUS_NS = 1_000_000_000
DRAIN_NS = 2_000_000_000
PACKETS_A_TURN = 256
STATUS_FILE = "link_status.json"


class LinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """How journal and link stand, once a second in the run folder; `link` is None for a run without a learner."""

    journal: JournalStatus
    link: LinkStatus | None


class LinkProcess:
    """Sockets and files around the link core and the robot's side of the link."""

    def __init__(self, options: RunOptions) -> None:
        """Open the journal, listen to the writers, connect to the learner; raises PocoError or OSError."""
        settings = options.settings
        self._folder = RunFolder.open(Path(options.folder))
        self._disk = FolderDisk(journal_folder(options))
        journal = Journal(
            self._disk,
            settings.robot.name,
            RealSurroundings(),
            quota_bytes=settings.journal.quota_bytes,
            drop_autonomous=settings.journal.when_full == "drop_autonomous",
        )
        self._core: LinkCore[int] = LinkCore(journal)
        self._poller = zmq.Poller()
        self._connections: dict[int, socket.socket] = {}
        self._listener = self._listen(options.run_name)
        self._side: RobotSide | None = None
        self._learner: zmq.Socket[bytes] | None = None
        if settings.link.learner:
            keys = Path(settings.link.keys).expanduser() if settings.link.keys else None
            self._network = Network(KeyFolder(keys) if keys else None)
            self._address = settings.link.learner
            self._store, self._swaps = ArtifactStore(options.store), options.swaps
            download = Download(self._store.floor.generation, self._keep, settings.swap.offer_bytes_max)
            self._side = RobotSide(journal, self._folder.facts().specification_hash, download)
            self._learner = self._connected()
        self._told, self._alone = ("recording", "", ""), False
        self._report_ns, self._met_ns = 0, monotonic_ns()
        self.stopping = False
        self._poller.register(sys.stdin.fileno(), zmq.POLLIN)

    def _listen(self, name: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.bind(address_of(name))
        listener.listen()
        self._poller.register(listener.fileno(), zmq.POLLIN)
        return listener

    def _connected(self) -> zmq.Socket[bytes]:
        learner = self._network.connect(self._address, LEARNER)
        self._poller.register(learner, zmq.POLLIN)
        return learner

    def _connect_anew(self, side: RobotSide, now_ns: int) -> None:
        """Give the connection up for a new one; while there is no key for it, say so and keep the journal."""
        if self._learner is not None:
            self._poller.unregister(self._learner)
            self._learner.close(linger=0)
            self._learner = None
        try:
            self._learner = self._connected()
            side.reopened(now_ns)
        except PocoError as error:
            side.reopened(now_ns, str(error))

    def run(self) -> None:
        """Serve until a signal comes, then give the learner a moment to take the rest."""
        deadline_ns = None
        while True:
            ready = dict(self._poller.poll(POLL_MS))
            self._accept(ready)
            self._read(ready)
            now_ns = monotonic_ns()
            for connection, receipt in self._core.poll(now_ns):
                self._answer(connection, receipt)
            self._exchange(now_ns)
            self._tell(now_ns)
            if self._orphaned(ready) and not self._connections:
                self.stopping = True
            if self.stopping:
                deadline_ns = deadline_ns or now_ns + DRAIN_NS
                if self._drained(now_ns) or now_ns > deadline_ns:
                    self._report_ns = 0
                    return self._tell(now_ns)

    def _orphaned(self, ready: dict[object, int]) -> bool:
        """Tell whether the supervisor, who holds the other end of the standard input, is gone."""
        stdin = sys.stdin.fileno()
        if stdin in ready and not os.read(stdin, PACKET_BYTES):
            self._poller.unregister(stdin)
            self._alone = True
        return self._alone

    def _accept(self, ready: dict[object, int]) -> None:
        if self._listener.fileno() in ready:
            connection, _ = self._listener.accept()
            if peer_user(connection) != os.getuid():
                connection.close()
                return
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection
            self._poller.register(connection.fileno(), zmq.POLLIN)

    def _read(self, ready: dict[object, int]) -> None:
        for number, connection in list(self._connections.items()):
            if number not in ready or not self._core.willing:
                continue
            try:
                for _ in range(PACKETS_A_TURN):
                    packet = connection.recv(PACKET_BYTES)
                    if not packet or not self._core.receive(number, packet):
                        self._close(number)
                        break
            except BlockingIOError:
                continue
            except OSError:
                self._close(number)

    def _answer(self, number: int, receipt: bytes) -> None:
        try:
            self._connections[number].send(receipt)
        except BlockingIOError:
            return  # a writer that does not read gets the next one
        except OSError:
            self._close(number)

    def _close(self, number: int) -> None:
        self._core.closed(number)
        self._poller.unregister(number)
        self._connections.pop(number).close()

    def _exchange(self, now_ns: int) -> None:
        if self._side is None:
            return
        with suppress(zmq.Again):
            while self._learner is not None:
                self._side.receive(self._learner.recv_multipart(zmq.NOBLOCK), now_ns)
        if self._side.status.state == "streaming":
            self._met_ns = now_ns
        if self._side.silent(now_ns):
            self._connect_anew(self._side, now_ns)
        if self._learner is None:
            return
        for frames in self._side.poll(now_ns):
            try:
                self._learner.send_multipart(frames, zmq.NOBLOCK)
            except zmq.Again:
                return  # nobody there, or slow: what was not sent is sent again from the journal

    def _keep(self, generation: int, content: bytes) -> None:
        """Leave a snapshot for the gate; nothing is known about it yet. In a run that takes no new policy it goes unused."""
        if not self._swaps:
            return
        try:
            leave_offer(self._store.folder, content)
        except OSError as error:
            _say(f"note generation {generation} was offered and cannot be kept ({error.strerror}): free space")

    def _drained(self, now_ns: int) -> bool:
        """Whether nothing is left that a learner would take; one that has long been away is not waited for."""
        if self._core.journal.pending_bytes:
            return False
        if self._side is None or self._side.status.state == "refused":
            return True
        return self._side.status.waiting == 0 or now_ns > self._met_ns + DRAIN_NS

    def _tell(self, now_ns: int) -> None:
        """Say on standard output what a person should know, once, and leave the status in the run folder."""
        if now_ns < self._report_ns:
            return
        self._report_ns = now_ns + STATUS_NS
        status = self._core.journal.status
        link = self._side.status if self._side is not None else None
        matters = status.state, status.trouble, link.trouble if link else ""
        if matters != self._told:
            self._told = matters
            words = ["" if self._core.may_start else self._core.trouble, self._core.warning, matters[2]]
            _say(f"note {'; '.join(filter(None, words)) or 'journal and link are well again'}")
        part = self._folder.path / f"{STATUS_FILE}.part"
        try:
            part.write_bytes(msgspec.json.encode(LinkReport(journal=status, link=link)))
            part.rename(self._folder.path / STATUS_FILE)
        except OSError:
            return  # the status can be missed


def _say(line: str) -> None:
    """Tell the supervisor; without one the journal is still to be written to its end."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def journal_folder(options: RunOptions) -> Path:
    """Return the folder of the robot's journal: the one of the settings, or one beside the run folder."""
    folder = options.settings.journal.folder
    return Path(folder).expanduser() if folder else beside(options, "journal")


def beside(options: RunOptions, what: str) -> Path:
    """Return the folder of `what` that all runs of this robot share, beside the run folder."""
    return Path(options.folder).parent / f"{what}-{options.settings.robot.name}"


def main() -> None:
    """Entry point of the link process; arguments come from the supervisor."""
    _, options = process_arguments(argparse.ArgumentParser(description=__doc__))
    try:
        process = LinkProcess(options)

        def stop(number: int, frame: FrameType | None) -> None:
            process.stopping = True

        signals.signal(signals.SIGTERM, stop)
    except PocoError as error:
        exit_with(error)
    except OSError as error:
        exit_with(
            PocoError(
                f"the journal in {journal_folder(options)} cannot be opened ({error.strerror}): free space or repair the disk"
            )
        )
    _say("ready")
    guard(process.run)


if __name__ == "__main__":
    main()
