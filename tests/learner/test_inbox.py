"""What a learner's inbox puts out, and what it keeps no longer."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from lossy_disk import LossyDisk
from poco.errors import ArtifactError
from poco.journal.records import Boot, Ended, Record, Stepped, Written, encode
from poco.journal.segments import Entry
from poco.learner.gathering import BOOTS_MAX
from poco.learner.inbox import JOURNALS_MAX, LogInbox
from poco.records import EpisodeEnd, Step, StepKey
from synthetic_run import specification

ROBOT, JOURNAL, DIGEST = "arm", "journal", specification().digest()
SEGMENT_BYTES, OPEN_BYTES = 2000, 20_000


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
        return LogInbox(self.disk, DIGEST, SEGMENT_BYTES, open_bytes=OPEN_BYTES)

    def send(self, *records: Record) -> None:
        """Let `records` arrive."""
        for record in records:
            self._sequence += 1
            payload = encode(Written("policy", self._sequence, 0, 0, record))
            self.inbox.take(ROBOT, JOURNAL, [Entry(self._sequence, 1, payload)])
            assert self.inbox.commit()

    def finished(self) -> list[tuple[int, int, int]]:
        """Boot epoch, number and steps of the episodes that come out."""
        out = iter(self.inbox.next_finished, None)
        return [(one.end.boot_epoch, one.end.episode, len(one.steps)) for one in out if one is not None]


def test_episodes_that_were_broken_off_keep_no_segment() -> None:
    """Every run ends in the middle of an episode: the inbox holds no more than the two last runs, also where it is opened anew."""
    stream, runs = Stream(), 8
    used_bytes, finished = [], []
    for epoch in range(1, runs + 1):
        stream.send(boot(epoch), *steps(epoch, 0, range(9)), ended(epoch, 0), *steps(epoch, 1, range(5)))
        finished += stream.finished()
        stream.inbox.trim(stream.inbox.position)
        used_bytes.append(stream.inbox.used_bytes)
    assert finished == [(epoch, 0, 9) for epoch in range(1, runs + 1)]
    assert max(used_bytes) < 2 * used_bytes[1]
    again = stream.opened()
    assert again.gathering.oldest_open == stream.inbox.gathering.oldest_open
    assert stream.inbox.gathering.counts["episodes broken off"] == runs - 2


def test_a_robot_that_never_comes_back_fills_no_disk() -> None:
    """The episode it had begun holds what came after it up to a limit; then it is given up, counted, and not taken for whole."""
    stream, gone = Stream(), "gone"

    def send_of_gone(first: int, *records: Record) -> None:
        for sequence, record in enumerate(records, first):
            entry = Entry(sequence, 1, encode(Written("policy", sequence, 0, 0, record)))
            stream.inbox.take(gone, "its own", [entry])
            assert stream.inbox.commit()

    def of_gone(step: Stepped) -> Stepped:
        return Stepped(step=replace(step.step, key=replace(step.step.key, robot=gone)))

    begun, rest = (list(map(of_gone, steps(1, 0, numbers))) for numbers in (range(4), range(4, 6)))
    send_of_gone(1, replace(boot(1), robot=gone), *begun)
    stream.send(boot(1))
    used_bytes = []
    for episode in range(60):
        stream.send(*steps(1, episode, range(9)), ended(1, episode))
        assert stream.finished() == [(1, episode, 9)]
        stream.inbox.trim(stream.inbox.position)
        used_bytes.append(stream.inbox.used_bytes)
    assert OPEN_BYTES / 2 < max(used_bytes) < OPEN_BYTES + 4 * SEGMENT_BYTES
    assert used_bytes[-1] < 4 * SEGMENT_BYTES
    assert stream.inbox.gathering.counts["episodes broken off"] == 1
    send_of_gone(len(begun) + 2, *rest, Ended(end=replace(ended(1, 0).end, robot=gone)))
    assert stream.finished() == []
    assert stream.inbox.gathering.counts["episodes not whole"] == 1


def test_the_last_words_of_a_process_may_come_behind_those_of_the_next() -> None:
    """A robot that reads its processes in turns may journal a new one before the rest of the old: the episode is whole still."""
    stream = Stream()
    stream.send(boot(1), *steps(1, 0, range(3)), boot(2), *steps(1, 0, range(3, 6)), ended(1, 0))
    assert stream.finished() == [(1, 0, 6)]


def test_what_waits_lies_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inbox opened anew has none of its episodes in memory: each is read when it is asked for, those before not at all."""
    stream, count = Stream(), 40
    stream.send(boot(1))
    positions = []
    for episode in range(count):
        stream.send(*steps(1, episode, range(9)), ended(1, episode))
        positions.append(stream.inbox.position)
    read, disk_read = list[str](), stream.disk.read

    def noted(name: str) -> bytes:
        read.append(name)
        return disk_read(name)

    monkeypatch.setattr(stream.disk, "read", noted)
    tracemalloc.start()
    again = stream.opened()
    assert tracemalloc.get_traced_memory()[0] < 60 * SEGMENT_BYTES < stream.inbox.used_bytes
    tracemalloc.stop()
    read.clear()
    last = again.next_finished(after=positions[-2])
    assert last is not None
    assert (last.end.episode, len(last.steps), last.position) == (count - 1, 9, positions[-1])
    assert len(read) < 4
    assert again.next_finished() is None
    every = stream.opened()
    read.clear()
    assert [one.end.episode for one in iter(every.next_finished, None) if one is not None] == list(range(count))
    assert len(read) < 2 * len(stream.disk.names())


def test_an_episode_that_the_disk_has_lost_since_ends_the_learner_with_a_sentence() -> None:
    """What was whole when it came and is not when it is read is said, not learned from."""
    stream = Stream()
    stream.send(boot(1), *steps(1, 0, range(3)), ended(1, 0))
    name = stream.disk.names()[-1]
    stream.disk.truncate(name, stream.disk.size(name) - 1)
    with pytest.raises(ArtifactError, match="episode 0 of arm can no longer be read"):
        stream.inbox.next_finished()


def test_the_past_of_a_robot_does_not_fill_the_head() -> None:
    """After hundreds of policy processes and journals a segment's head is no larger, and what comes now is taken as ever."""
    stream = Stream()
    for epoch in range(1, 10 * BOOTS_MAX):
        stream.send(boot(epoch))
    for number in range(5 * JOURNALS_MAX):
        stream.inbox.take(ROBOT, f"journal {number}", [Entry(1, 1, encode(Written("policy", 1, 0, 0, boot(1))))])
        assert stream.inbox.commit()
    state = stream.inbox.gathering.state
    assert len(state.boots[ROBOT]) == BOOTS_MAX
    assert stream.inbox.durable(ROBOT, f"journal {5 * JOURNALS_MAX - 1}") == 1
    assert stream.inbox.durable(ROBOT, JOURNAL) == 0
    epoch = 10 * BOOTS_MAX
    stream.send(boot(epoch), *steps(epoch, 0, range(3)), ended(epoch, 0))
    assert stream.finished() == [(epoch, 0, 3)]


def test_room_is_made_in_small_portions() -> None:
    """Who asks for a few segments at a time gets there, too."""
    stream = Stream()
    stream.send(boot(1))
    for episode in range(20):
        stream.send(*steps(1, episode, range(9)), ended(1, episode))
    count, position = len(stream.disk.names()), stream.inbox.position
    assert stream.inbox.trim(position, 3)
    assert len(stream.disk.names()) == count - 3
    while stream.inbox.trim(position, 3):
        pass
    assert len(stream.disk.names()) == 1
