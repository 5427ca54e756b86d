"""The robot's side of the link without any socket: fed with frames and time, it says what to send and what to reopen.

Only durable entries are sent, in order, at most a window ahead of the learner's last acknowledgement. Whatever is not
acknowledged is sent again from the journal; the sockets are never the store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from poco.journal.segments import Entry, encode
from poco.link.download import Download
from poco.link.messages import (
    PROTOCOL,
    Acknowledged,
    Batch,
    Frames,
    Greet,
    Hello,
    Offered,
    Part,
    Ping,
    Refused,
    Welcome,
    from_learner,
    pack,
)
from poco.link.pace import Pace

SECOND_NS = 1_000_000_000
HELLO_NS = SECOND_NS
REFUSED_NS = 2 * SECOND_NS
PING_NS = SECOND_NS
RESEND_NS = 3 * SECOND_NS
"""Longer than the least that is under way takes on a slow line that is full both ways."""

SILENCE_NS = 3 * SECOND_NS
BATCH_BYTES_MIN = 4 << 10
"""Passes a slow line well within all deadlines, so that something is heard and acknowledged there too."""

BATCH_BYTES_MAX = 64 << 10
BATCHES_UNDER_WAY = 16
"""Fewer than half of what a socket lets wait (`sockets.WAITING_MESSAGES`), since it hears by halves that there is room again; more
would be refused there and have to be sent again."""


class Source(Protocol):
    """The journal as the link sees it."""

    robot: str

    @property
    def identity(self) -> str:
        """What tells this journal from every other one."""
        ...

    @property
    def first_sequence(self) -> int:
        """The oldest entry that is kept."""
        ...

    @property
    def durable_sequence(self) -> int:
        """The newest entry that is durable."""
        ...

    def read(self, sequence: int, max_bytes: int) -> Sequence[Entry]:
        """Return durable entries from `sequence` on; raises OSError."""
        ...

    def acknowledge(self, sequence: int) -> None:
        """The learner has everything up to `sequence`."""
        ...

    def take_new_identity(self) -> None:
        """Go on as another journal."""
        ...


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the link stands: entries the learner has, entries that wait, messages refused as no sense, last reason to complain."""

    state: Literal["connecting", "streaming", "refused"]
    acknowledged: int
    waiting: int
    generation: int
    rejected: int
    trouble: str


class RobotSide:
    """One robot's session with its learner, again and again."""

    def __init__(self, source: Source, specification_hash: str, download: Download) -> None:
        self._source, self._specification_hash = source, specification_hash
        self.download = download
        self._state: Literal["connecting", "streaming", "refused"] = "connecting"
        self._trouble = ""
        self._rejected = 0
        self._hello_ns, self._ping_ns = 0, 0
        self._heard_ns: int | None = None
        self._progress_ns = 0
        self._acknowledged, self._next, self._window_bytes = 0, 1, 0
        self._went_back_to = 0
        self._under_way: deque[tuple[int, int, int]] = deque()
        self._pace = Pace(2 * BATCH_BYTES_MIN, BATCHES_UNDER_WAY * BATCH_BYTES_MAX)
        self._read_again_ns = 0

    @property
    def status(self) -> LinkStatus:
        """How the link stands."""
        return LinkStatus(
            state=self._state,
            acknowledged=self._acknowledged,
            waiting=self._source.durable_sequence - self._acknowledged,
            generation=self.download.generation,
            rejected=self._rejected,
            trouble=self._trouble,
        )

    def silent(self, now_ns: int) -> bool:
        """Tell whether nothing was heard for so long that the connection is to be made anew; then `reopened` is to be called."""
        if self._heard_ns is None:
            self._heard_ns = now_ns
        return now_ns - self._heard_ns > SILENCE_NS

    def reopened(self, now_ns: int, trouble: str = "") -> None:
        """A new connection begins, or could not for a `trouble` that a sentence tells."""
        self._heard_ns, self._trouble = now_ns, trouble or self._trouble
        self._state = "connecting"
        self._hello_ns = now_ns

    def poll(self, now_ns: int) -> list[list[bytes]]:
        """Return the messages to send now."""
        if self._state != "streaming":
            if now_ns < self._hello_ns:
                return []
            self._hello_ns = now_ns + HELLO_NS
            return [pack(self._hello())]
        messages = []
        if self._under_way and now_ns - self._progress_ns > RESEND_NS:
            self._go_back(self._acknowledged + 1, now_ns)
            self._pace.start_over()
        if now_ns >= self._ping_ns:
            self._ping_ns = now_ns + PING_NS
            messages.append(pack(Ping(generation=self.download.generation, sequence=self._next - 1)))
        fetch = self.download.poll(now_ns)
        if fetch is not None:
            messages.append(pack(fetch))
        return messages + self._batches(now_ns)

    def _hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            robot=self._source.robot,
            journal=self._source.identity,
            specification_hash=self._specification_hash,
            generation=self.download.generation,
            first_sequence=self._source.first_sequence,
            durable_sequence=self._source.durable_sequence,
        )

    def _batches(self, now_ns: int) -> list[list[bytes]]:
        messages: list[list[bytes]] = []
        if now_ns < self._read_again_ns:
            return messages
        window_bytes = min(self._window_bytes, self._pace.bytes)
        batch_bytes = max(BATCH_BYTES_MIN, window_bytes // BATCHES_UNDER_WAY)
        under_way_bytes = sum(size for _, size, _ in self._under_way)
        while self._next <= self._source.durable_sequence and under_way_bytes < window_bytes:
            if len(self._under_way) >= BATCHES_UNDER_WAY:
                break
            try:
                entries = self._source.read(self._next, batch_bytes)
            except OSError as error:
                self._trouble = f"the journal cannot be read ({error.strerror or error}): repair the disk"
                self._read_again_ns = now_ns + SECOND_NS
                break
            if self._read_again_ns:
                self._read_again_ns, self._trouble = 0, ""
            content = b"".join(map(encode, entries))
            if not self._under_way:
                self._progress_ns = now_ns
            self._next = entries[-1].following
            self._under_way.append((self._next - 1, len(content), now_ns))
            under_way_bytes += len(content)
            messages.append(pack(Batch(journal=self._source.identity), content))
        return messages

    def receive(self, frames: Frames, now_ns: int) -> None:
        """Take one message of the learner; anything that is none is counted and changes nothing."""
        received = from_learner(frames)
        if received is None:
            self._rejected += 1
            return
        self._heard_ns = now_ns
        message, content = received
        match message:
            case Welcome():
                self._welcome(message, now_ns)
            case Acknowledged():
                self._acknowledge(message, now_ns)
            case Refused():
                self._state, self._trouble = "refused", f"the learner refuses: {message.reason}"
                self._hello_ns = now_ns + REFUSED_NS
            case Greet() if self._state == "streaming":
                self._state, self._hello_ns = "connecting", now_ns
            case Offered():
                self.download.offer(message)
            case Part():
                self.download.arrived(message, content)

    def _welcome(self, message: Welcome, now_ns: int) -> None:
        if message.journal != self._source.identity:
            return
        if message.sequence > self._source.durable_sequence:
            self._source.take_new_identity()
            self._state, self._hello_ns = "connecting", now_ns
            self._acknowledged = 0
            return
        if self._state != "streaming":
            self._state, self._trouble = "streaming", ""
            self._acknowledged = message.sequence
            self._under_way.clear()
            self._go_back(message.sequence + 1, now_ns)
            self._pace.start_over()
        self._window_bytes = message.window_bytes
        self._source.acknowledge(message.sequence)

    def _acknowledge(self, message: Acknowledged, now_ns: int) -> None:
        if message.journal != self._source.identity or self._state != "streaming":
            return
        if message.sequence > self._acknowledged:
            self._acknowledged = min(message.sequence, self._source.durable_sequence)
            self._source.acknowledge(self._acknowledged)
            self._progress_ns = now_ns
            while self._under_way and self._under_way[0][0] <= self._acknowledged:
                _, _, sent_ns = self._under_way.popleft()
                if self._next <= self._source.durable_sequence:
                    self._pace.passed(sent_ns, now_ns)
        if (
            message.gap
            and self._acknowledged < message.expected < self._next
            and message.expected != self._went_back_to
        ):
            self._go_back(message.expected, now_ns)
            self._went_back_to = message.expected

    def _go_back(self, sequence: int, now_ns: int) -> None:
        """Send again from `sequence` on; what is before it is under way or acknowledged."""
        while self._under_way and self._under_way[-1][0] >= sequence:
            self._under_way.pop()
        self._next = sequence
        self._went_back_to = 0
        self._progress_ns = now_ns
