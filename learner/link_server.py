"""Serves the robots in a thread of the learner: inbox first, then the acknowledgement; what is finished waits for the replay."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from threading import Event, Lock, Thread

import msgspec

from poco.clock import monotonic_ns
from poco.errors import PocoError
from poco.journal.disk import FolderDisk
from poco.learner.episode_assembly import Finished
from poco.learner.inbox import LogInbox
from poco.link.keys import KeyFolder
from poco.link.learner_side import LearnerSide, Outgoing
from poco.link.sockets import Network, Server

POLL_MS = 10
GROUP_NS = 40_000_000
RETRY_NS = 1_000_000_000
SEGMENTS_A_TURN = 8
"""So many segments are given up before the robots are listened to again; each waits for the disk."""


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the link stands on the learner: robots that are connected, position of the inbox, entries by what became of them."""

    robots: list[str]
    position: int
    inbox_bytes: int
    rejected: int
    counts: dict[str, int]
    generations: dict[str, int]
    trouble: str


class LinkServer:
    """The learner's end of the link; the methods may be called from one other thread, the one that trains."""

    def __init__(
        self,
        folder: Path,
        specification_hash: str,
        address: str,
        keys: KeyFolder | None,
        once_a_chunk: bool = False,
    ) -> None:
        """Open the inbox in `folder` and bind `address`; raises PocoError before anything is served.

        `once_a_chunk` says how often robots send images, see `assembled`.
        """
        with ExitStack() as opened:
            self._disk = FolderDisk(folder)
            opened.callback(self._disk.close)
            try:
                self._inbox = LogInbox(self._disk, specification_hash, once_a_chunk=once_a_chunk)
            except OSError as error:
                raise PocoError(
                    f"the inbox {folder} cannot be opened ({error.strerror}): free space or repair it"
                ) from error
            self._network = Network(keys)
            opened.callback(self._network.close)
            self._server = Server(self._network, address)
            opened.pop_all()
        self._side = LearnerSide(self._inbox, specification_hash, authenticated=keys is not None)
        self._lock = Lock()
        self._end = Event()
        self._snapshot: tuple[int, bytes] | None = None
        self._trim: int | None = None
        self._due_ns: int | None = None
        self._trouble = self._room_trouble = ""
        self._failure: BaseException | None = None
        self._status = self._look()
        self._thread = Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where robots connect to."""
        return self._server.address

    def next_finished(self, after: int = 0) -> Finished | None:
        """Return the next episode that has ended behind position `after` of the inbox, read from there; None if there is none.

        Raises PocoError if the link has ended by a fault or the inbox cannot be read.
        """
        if self._failure is not None:
            raise PocoError(f"the link has ended ({self._failure!r}): start the learner again") from self._failure
        try:
            return self._inbox.next_finished(after)
        except OSError as error:
            raise PocoError(
                f"the inbox {self._disk.folder} cannot be read ({error.strerror or error}): repair the disk and start again"
            ) from error

    def publish(self, generation: int, content: bytes) -> None:
        """Offer `content` to all robots as `generation`, in place of what was offered before."""
        with self._lock:
            self._snapshot = generation, content

    def trim(self, position: int) -> None:
        """Give up what lies before `position`: replay and checkpoint are durable up to there."""
        with self._lock:
            self._trim = position

    @property
    def status(self) -> ServerStatus:
        """How the link stands, not older than a tenth of a second while it is well."""
        return self._status

    def close(self) -> None:
        """End the thread and close sockets and inbox."""
        self._end.set()
        self._thread.join()
        self._server.close()
        self._network.close()
        self._disk.close()

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                self._turn()
            self._commit()
        except Exception as error:
            self._failure = error

    def _turn(self) -> None:
        self._server.socket.poll(POLL_MS)
        now_ns = monotonic_ns()
        for peer, user, frames in self._server.receive():
            self._send(self._side.receive(peer, user, frames, now_ns))
        self._side.forget_silent(now_ns)
        if self._due_ns is None and self._inbox.pending_bytes:
            self._due_ns = now_ns + GROUP_NS
        if self._due_ns is not None and now_ns >= self._due_ns:
            self._due_ns = None if self._commit() else now_ns + RETRY_NS
        if self._server.look_at_keys():
            self._side.forget_all()
        self._take_orders()
        self._status = self._look()

    def _commit(self) -> bool:
        try:
            self._inbox.commit()
        except OSError as error:
            self._trouble = f"the inbox cannot be written ({error.strerror or error}): free space or repair the disk"
            return False
        self._trouble = ""
        self._send(self._side.committed())
        return True

    def _take_orders(self) -> None:
        with self._lock:
            snapshot, self._snapshot = self._snapshot, None
            trim, self._trim = self._trim, None
        if snapshot is not None:
            self._send(self._side.publish(*snapshot))
        if trim is not None:
            self._make_room(trim)

    def _make_room(self, position: int) -> None:
        try:
            more = self._inbox.trim(position, SEGMENTS_A_TURN)
        except OSError as error:
            self._room_trouble = f"the inbox cannot make room ({error.strerror or error}): repair the disk"
            return
        self._room_trouble = ""
        with self._lock:
            if more and self._trim is None:
                self._trim = position

    def _send(self, messages: list[Outgoing]) -> None:
        for peer, frames in messages:
            self._server.send(peer, frames)

    def _look(self) -> ServerStatus:
        return ServerStatus(
            robots=sorted(session.robot for session in self._side.sessions),
            position=self._inbox.position,
            inbox_bytes=self._inbox.used_bytes,
            rejected=self._side.rejected,
            counts=dict(self._inbox.gathering.counts),
            generations=dict(self._inbox.generations),
            trouble=self._trouble or self._room_trouble or self._side.trouble,
        )
