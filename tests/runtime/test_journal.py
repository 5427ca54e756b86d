"""The robot's journal against its quota and a disk that fails: nothing waits for ever, and what a person is told is so."""

from __future__ import annotations

import pytest

from lossy_disk import LossyDisk
from poco.journal.records import Boot, Ended, Missing, Record, Stepped, decode
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.journal import Journal
from poco.runtime.link_core import LinkCore
from poco.surroundings import RealSurroundings
from synthetic_run import specification

QUOTA = 80_000
LENGTH = 10
WRITER = "policy-1"


class Robot:
    """A journal on a disk in memory and a writer that makes episodes of LENGTH steps."""

    def __init__(self, *, drops: bool = False, quota_bytes: int = QUOTA) -> None:
        self.disk = LossyDisk(0)
        self.journal = self.opened(quota_bytes, drops=drops)
        self._number = self._episode = 0
        digest = specification().digest()
        self._append(
            Boot(robot="arm", boot_epoch=1, generation=1, specification=specification(), specification_hash=digest)
        )

    def opened(self, quota_bytes: int, *, drops: bool = False) -> Journal:
        """Open the journal anew, as another process of the same robot does."""
        return Journal(self.disk, "arm", RealSurroundings(), quota_bytes=quota_bytes, drop_autonomous=drops)

    def _append(self, record: Record) -> None:
        self._number += 1
        self.journal.append(WRITER, self._number, record)

    def episode(self, *, human: bool = False, commit: bool = True) -> None:
        """Record one episode, of which a person drove the first step if `human`."""
        for number in range(LENGTH):
            step = Step(
                key=StepKey("arm", 1, self._episode, number),
                tick=number,
                generation=1,
                chunk_id=1,
                observation=[0.0] * 7,
                action_policy=[0.0] * 7,
                action_executed=[],
                reward=0.0,
                intervened=human and number == 0,
            )
            self._append(Stepped(step=step))
            assert not commit or self.journal.commit()
        end = EpisodeEnd(
            robot="arm",
            boot_epoch=1,
            episode=self._episode,
            tick=0,
            final_observation=[0.0] * 7,
            outcome="success",
            terminated=True,
            truncated=False,
        )
        self._append(Ended(end=end))
        self._episode += 1
        assert not commit or self.journal.commit()

    def fill(self, *, human: bool = False) -> None:
        """Record episodes until the journal is full."""
        while self.journal.status.state != "full":
            self.episode(human=human)

    def steps(self) -> list[StepKey]:
        """The steps that are there."""
        return [record.step.key for record in self.records() if isinstance(record, Stepped)]

    def records(self) -> list[Record]:
        """All records that are there."""
        found, sequence = [], self.journal.first_sequence
        while sequence <= self.journal.durable_sequence:
            for entry in self.journal.read(sequence, 1 << 20):
                sequence = entry.following
                if (written := decode(entry.payload)) is not None:
                    found.append(written.record)
        return found


def trouble(robot: Robot) -> str:
    """Why no new episode may begin."""
    core: LinkCore[int] = LinkCore(robot.journal)
    return "" if core.may_start else core.trouble


def test_human_episodes_stay() -> None:
    """Autonomous episodes go, one at a look, the human ones never; a journal of these alone is full and says what helps."""
    robot = Robot(drops=True)
    robot.fill(human=True)
    assert "nothing in it may be dropped: start the learner or raise journal.quota_bytes" in trouble(robot)
    for _ in range(3):
        robot.journal.make_room()
    assert robot.journal.status.state == "full"
    human = robot.steps()
    for _ in range(20):
        robot.episode()
        robot.journal.make_room()
    assert robot.steps()[: len(human)] == human
    dropped = {record.episode for record in robot.records() if isinstance(record, Missing)}
    assert 10 < len(dropped) < 20
    assert min(filter(None, dropped)) == len(human) // LENGTH


def test_an_episode_whose_beginning_is_gone_stays() -> None:
    """What the learner has acknowledged is gone; a person may have driven it, so what is left of the episode is not dropped."""
    robot = Robot(drops=True)
    while len(robot.journal._log.starts) < 3:
        robot.episode(human=True)
    first = robot.journal._log.starts[1]
    robot.fill(human=True)
    robot.journal.acknowledge(first - 1)
    robot.journal.make_room()
    assert robot.journal.first_sequence == first
    assert robot.steps()[0].step > 0
    before = robot.steps()
    for _ in range(3):
        robot.episode(human=True)
        robot.journal.make_room()
    assert robot.steps()[: len(before)] == before
    assert not any(isinstance(record, Missing) for record in robot.records())


@pytest.mark.parametrize("drops", [False, True])
def test_everything_acknowledged_is_room(drops: bool) -> None:
    """What waited for a disk that failed may be one group larger than the quota; once the learner has it there is room."""
    robot = Robot(drops=drops)
    while robot.journal.pending_bytes < 2 * QUOTA:
        robot.episode(commit=False)
    assert robot.journal.commit()
    assert "the journal is full" in trouble(robot)
    robot.journal.make_room()
    assert "the journal is full" in trouble(robot)
    robot.journal.acknowledge(robot.journal.durable_sequence)
    robot.journal.make_room()
    assert trouble(robot) == ""
    robot.episode()
    assert len(robot.steps()) == LENGTH
    again = robot.opened(QUOTA)
    assert again.identity == robot.journal.identity
    assert again.receipts == robot.journal.receipts


def test_a_disk_that_would_not_remove() -> None:
    """A failure to make room is told, and forgotten when there is room, also if nothing is recorded meanwhile."""
    robot = Robot()
    robot.fill()
    robot.journal.acknowledge(robot.journal.durable_sequence)
    robot.disk.failing = 1.0
    for _ in range(3):
        robot.journal.make_room()
        assert "the journal cannot make room (Input/output error): free space or repair the disk" in trouble(robot)
    robot.disk.failing = 0.0
    robot.journal.make_room()
    assert trouble(robot) == ""


def test_a_quota_smaller_than_a_segment() -> None:
    """Segments are an eighth of the quota at most; one that an earlier, larger quota left gives way like any other."""
    for drops in (False, True):
        robot = Robot(quota_bytes=1 << 40)
        while robot.journal.status.used_bytes < 3 * QUOTA:
            robot.episode()
        assert len(robot.journal._log.starts) == 1
        before = len(robot.steps())
        robot.journal = robot.opened(QUOTA, drops=drops)
        robot.journal.make_room()
        assert "the journal is full" in trouble(robot)
        looks = 0
        while drops and trouble(robot):
            robot.journal.make_room()
            assert robot.journal.commit()
            looks += 1
        assert looks < before / LENGTH
        robot.journal.acknowledge(robot.journal.durable_sequence)
        robot.journal.make_room()
        assert trouble(robot) == ""
        robot.fill()
        assert max(robot.disk.size(name) for name in robot.disk.names()) < QUOTA / 8 + 2000
