"""What a learner's inbox puts out, and what it keeps no longer."""

from __future__ import annotations

from collections.abc import Iterator

from lossy_disk import LossyDisk
from poco.journal.records import Boot, Ended, Record, Stepped, Written, encode
from poco.journal.segments import Entry
from poco.learner.inbox import LogInbox
from poco.records import EpisodeEnd, Step, StepKey
from synthetic_run import specification

ROBOT, JOURNAL, DIGEST = "arm", "journal", specification().digest()
SEGMENT_BYTES = 2000


def boot(epoch: int) -> Boot:
    """A policy process begins."""
    return Boot(robot=ROBOT, boot_epoch=epoch, generation=1, specification=specification(), specification_hash=DIGEST)


def steps(epoch: int, episode: int, numbers: range) -> Iterator[Stepped]:
    """Steps of an episode."""
    for number in numbers:
        zeros = [0.0] * 7
        key = StepKey(ROBOT, epoch, episode, number)
        step = Step(
            key=key,
            tick=number,
            generation=1,
            chunk_id=1,
            observation=zeros,
            action_policy=zeros,
            action_executed=zeros,
            reward=0.0,
        )
        yield Stepped(step=step)


def ended(epoch: int, episode: int) -> Ended:
    """The end of an episode."""
    end = EpisodeEnd(
        robot=ROBOT,
        boot_epoch=epoch,
        episode=episode,
        tick=0,
        final_observation=[0.0] * 7,
        outcome="success",
        terminated=True,
        truncated=False,
    )
    return Ended(end=end)


class Stream:
    """A robot's journal on its way into an inbox on `disk`."""

    def __init__(self) -> None:
        self.disk = LossyDisk(0)
        self.inbox = self.opened()
        self._sequence = 0

    def opened(self) -> LogInbox:
        """Open the inbox as a learner that begins does."""
        return LogInbox(self.disk, DIGEST, SEGMENT_BYTES)

    def send(self, *records: Record) -> None:
        """Let `records` arrive."""
        for record in records:
            self._sequence += 1
            payload = encode(Written("policy", self._sequence, 0, 0, record))
            self.inbox.take(ROBOT, JOURNAL, [Entry(self._sequence, 1, payload)])
            assert self.inbox.commit()

    def finished(self) -> list[tuple[int, int, int]]:
        """Boot epoch, number and steps of the episodes that came out."""
        return [(one.end.boot_epoch, one.end.episode, len(one.steps)) for one in self.inbox.finished]


def test_episodes_that_were_broken_off_keep_no_segment() -> None:
    """Every run ends in the middle of an episode: the inbox holds no more than the two last runs, also where it is opened anew."""
    stream, runs = Stream(), 8
    used_bytes = []
    for epoch in range(1, runs + 1):
        stream.send(boot(epoch), *steps(epoch, 0, range(9)), ended(epoch, 0), *steps(epoch, 1, range(5)))
        stream.inbox.trim(stream.inbox.position)
        used_bytes.append(stream.inbox.used_bytes)
    assert stream.finished() == [(epoch, 0, 9) for epoch in range(1, runs + 1)]
    assert max(used_bytes) < 2 * used_bytes[1]
    again = stream.opened()
    assert again.gathering.oldest_open == stream.inbox.gathering.oldest_open
    assert stream.inbox.gathering.counts["episodes broken off"] == runs - 2


def test_the_last_words_of_a_process_may_come_behind_those_of_the_next() -> None:
    """A robot that reads its processes in turns may journal a new one before the rest of the old: the episode is whole still."""
    stream = Stream()
    stream.send(boot(1), *steps(1, 0, range(3)), boot(2), *steps(1, 0, range(3, 6)), ended(1, 0))
    assert stream.finished() == [(1, 0, 6)]
