"""Robots, links and one learner in one process and one seed: messages are lost, doubled, delayed, overtaken, machines die.

Everything but clock, wire, disks and the policy is the real code: spool, link core, journal, both sides of the link, inbox,
gathering, replay. One round is 10 ms of its time.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lossy_disk import LossyDisk, PowerCut
from poco.journal.records import Boot, Ended, Noted, Record, Stepped
from poco.learner.inbox import LogInbox
from poco.learner.intake import Admitted, admit
from poco.learner.replay import Replay
from poco.link.download import Download
from poco.link.learner_side import LearnerSide, Outgoing
from poco.link.robot_side import RobotSide
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.entrance import Spool
from poco.runtime.journal import Journal
from poco.runtime.link_core import LinkCore
from poco.specification import Specification

ROUND_NS = 10_000_000
SEGMENT_BYTES = 16_384
EPISODE_STEPS = 40
SMALL_QUOTA = 8 * SEGMENT_BYTES
REPLAY_BYTES = 40_000


@dataclass
class Chances:
    """Probabilities: of a mishap for a message, of either end for a machine in a round, of a disk's operation failing."""

    message: float = 0.3
    kill: float = 0.004
    power_cut: float = 0.004
    disk: float = 0.0


class Surroundings:
    """The clock and the randomness of one world."""

    def __init__(self, seed: int) -> None:
        self.now_ns = 1_000_000_000
        self.random = random.Random(seed)

    def monotonic_ns(self) -> int:
        """Return the world's time (ns)."""
        return self.now_ns

    def unix_ns(self) -> int:
        """Return the same."""
        return self.now_ns

    def random_bytes(self, count: int) -> bytes:
        """Return bytes of this seed."""
        return self.random.randbytes(count)


class Wire:
    """Messages under way; each may be lost, doubled or late, and so overtaken."""

    def __init__(self, surroundings: Surroundings, chances: Chances) -> None:
        self._surroundings, self._chances = surroundings, chances
        self._under_way: list[tuple[int, int, bytes, list[bytes]]] = []
        self._count = 0
        self.fate: Counter[str] = Counter()

    def send(self, peer: bytes, frames: list[bytes]) -> None:
        """Send; what becomes of it is up to the seed."""
        draw, chance = self._surroundings.random.random, self._chances.message
        self.fate["sent"] += 1
        if draw() < chance / 3:
            self.fate["lost"] += 1
            return
        copies = 1
        if draw() < chance / 3:
            self.fate["doubled"] += 1
            copies = 2
        for _ in range(copies):
            late = draw() < chance
            self.fate["late"] += late
            delay = self._surroundings.random.randrange(1, 30) if late else 1
            self._count += 1
            self._under_way.append((self._surroundings.now_ns + delay * ROUND_NS, self._count, peer, frames))

    def arrived(self) -> list[tuple[bytes, list[bytes]]]:
        """Return what arrives now."""
        now_ns = self._surroundings.now_ns
        ripe = sorted(message for message in self._under_way if message[0] <= now_ns)
        self._under_way = [message for message in self._under_way if message[0] > now_ns]
        return [(peer, frames) for _, _, peer, frames in ripe]


@dataclass
class Told:
    """What a policy process of the past was: its boot epoch, what it offered, how much of it was said to be durable."""

    boot_epoch: int
    records: list[Record] = field(default_factory=list)
    durable: int = 0


class Robot:
    """A policy that makes steps, its link process, and the machine both run on."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.disk = LossyDisk(world.surroundings.random.getrandbits(32))
        self.disk.failing = world.chances.disk
        self.past: list[Told] = []
        self.snapshots: list[tuple[int, bytes]] = []
        self._connections = 0
        self._down_rounds = 0
        self.core: LinkCore[int] | None = None
        self.start_policy()
        self._start_link()

    def start_policy(self) -> None:
        """Begin a policy process with an empty memory."""
        self.past.append(Told(boot_epoch=len(self.past) + 1))
        self.spool = Spool(f"policy-{len(self.past)}")
        self._episode, self._step = 0, 0
        specification = self.world.specification
        self._offer(
            Boot(
                robot=self.name,
                boot_epoch=len(self.past),
                generation=0,
                specification=specification,
                specification_hash=specification.digest(),
            )
        )

    def _offer(self, record: Record) -> None:
        self.past[-1].records.append(record)
        self.spool.offer(record)

    def policy(self, steps: int) -> None:
        """Make `steps` steps, ends and events as they come."""
        draw = self.world.surroundings.random
        for _ in range(steps):
            epoch = self.past[-1].boot_epoch
            value = draw.uniform(-1.0, 1.0)
            key = StepKey(self.name, epoch, self._episode, self._step)
            self._offer(
                Stepped(
                    step=Step(
                        key=key,
                        tick=self._step,
                        generation=0,
                        chunk_id=1,
                        observation=[value] * self.world.specification.observation_size,
                        action_policy=[value] * self.world.specification.action_size,
                        action_executed=[],
                        reward=0.0,
                    )
                )
            )
            self._step += 1
            self.world.made += 1
            if draw.random() < 0.01:
                self._offer(Noted(event="clip", tick=self._step, generation=0, text="", episode=self._episode))
            if self._step >= EPISODE_STEPS or draw.random() < 0.03:
                self._offer(Ended(end=self._end(epoch)))
                self._episode, self._step = self._episode + 1, 0

    def _end(self, epoch: int) -> EpisodeEnd:
        return EpisodeEnd(
            robot=self.name,
            boot_epoch=epoch,
            episode=self._episode,
            tick=0,
            final_observation=[0.0] * self.world.specification.observation_size,
            outcome="failure",
            terminated=True,
            truncated=False,
        )

    def _start_link(self) -> None:
        try:
            journal = Journal(
                self.disk,
                self.name,
                self.world.surroundings,
                quota_bytes=SMALL_QUOTA if self.world.reclaims else 1 << 40,
                segment_bytes=SEGMENT_BYTES,
            )
        except OSError:
            return
        self.core = LinkCore(journal)
        self._generation = max((generation for generation, _ in self.snapshots), default=0)
        download = Download(self._generation, lambda *snapshot: self.snapshots.append(snapshot), 1 << 20)
        self.side = RobotSide(journal, self.world.specification.digest(), download)
        self._connections += 1
        self.core.receive(0, self.spool.greet())

    @property
    def peer(self) -> bytes:
        """The connection it has now."""
        return f"{self.name}/{self._connections}".encode()

    def round(self) -> None:
        """Let the link process run; it may end in the middle of something."""
        if self.core is None:
            self._down_rounds -= 1
            if self._down_rounds < 0:
                self._start_link()
            return
        now_ns = self.world.surroundings.now_ns
        while (packet := self.spool.next_packet()) is not None and self.core.willing:
            assert self.core.receive(0, packet)
            self.spool.sent()
        for _, receipt in self.core.poll(now_ns):
            self.spool.answered(receipt)
            self.past[-1].durable = len(self.past[-1].records) - self.spool.waiting
        if self.side.silent(now_ns):
            self._connections += 1
            self.side.reopened(now_ns)
        for frames in self.side.poll(now_ns):
            self.world.to_learner.send(self.peer, frames)

    def kill(self) -> None:
        """End the link process; the policy goes on."""
        self.core = None
        self._down_rounds = self.world.surroundings.random.randrange(50)

    def power_cut(self) -> None:
        """End everything on this machine."""
        self.kill()
        self.disk.power_cut()
        self.start_policy()

    @property
    def journal(self) -> Journal:
        """The journal of the link process that runs."""
        assert self.core is not None
        return self.core.journal


class Learner:
    """The inbox, the learner's side, the replay and the checkpoint of one machine."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.disk = LossyDisk(world.surroundings.random.getrandbits(32))
        self.disk.failing = world.chances.disk
        self.admitted = Admitted()
        self.inbox: LogInbox | None = None
        self._checkpoint = 0
        self._down_rounds = 0
        self.replay = Replay.create(folder, world.specification, REPLAY_BYTES)
        self._start()

    def _start(self) -> None:
        try:
            self.inbox = LogInbox(self.disk, self.world.specification.digest(), SEGMENT_BYTES)
        except OSError:
            return
        self.side = LearnerSide(self.inbox, self.world.specification.digest(), authenticated=False)
        self.replay = Replay.open(self.folder, self.world.specification)
        for robot in self.world.robots:
            if robot.core is not None:
                acknowledged = robot.side.status.acknowledged
                assert self.inbox.durable(robot.name, robot.journal.identity) >= acknowledged

    def round(self) -> None:
        """Commit now and then, fill the replay, write a checkpoint now and then."""
        if self.inbox is None:
            self._down_rounds -= 1
            if self._down_rounds < 0:
                self._start()
            return
        self.side.forget_silent(self.world.surroundings.now_ns)
        if self.inbox.pending_bytes and self.world.surroundings.random.random() < 0.3:
            try:
                self.inbox.commit()
            except OSError:
                return
            self._send(self.side.committed())
        while (finished := self.inbox.next_finished()) is not None:
            admit(finished, self.replay, self.admitted)
        if self.world.surroundings.random.random() < 0.02:
            self._checkpoint = self.replay.watermark
            with suppress(OSError):
                self.inbox.trim(0 if self.world.reclaims else self.replay.position)

    def receive(self, peer: bytes, frames: list[bytes]) -> None:
        """Take a message."""
        if self.inbox is not None:
            self._send(self.side.receive(peer, "", frames, self.world.surroundings.now_ns))

    def _send(self, messages: list[Outgoing]) -> None:
        for peer, frames in messages:
            self.world.to_robots.send(peer, frames)

    def publish(self, generation: int, content: bytes) -> None:
        """Offer a snapshot."""
        if self.inbox is not None:
            self._send(self.side.publish(generation, content))

    def kill(self) -> None:
        """End the learner's process: its replay keeps what was written."""
        self.inbox = None
        self._down_rounds = self.world.surroundings.random.randrange(50)

    def power_cut(self) -> None:
        """End its machine: the replay goes back to the checkpoint."""
        self.kill()
        self.disk.power_cut()
        self.replay.rewind(self._checkpoint)


class World:
    """Everything, by seed; journals give up what is acknowledged in odd ones, the inbox what is admitted in even ones."""

    def __init__(
        self, seed: int, specification: Specification, folder: Path, chances: Chances, robots: int = 2
    ) -> None:
        self.specification, self.chances = specification, chances
        self.reclaims = bool(seed % 2)
        self.robots: list[Robot] = []
        self.surroundings = Surroundings(seed)
        self.made = 0
        self.ends: Counter[str] = Counter()
        self.to_learner = Wire(self.surroundings, chances)
        self.to_robots = Wire(self.surroundings, chances)
        self.learner = Learner(self, folder)
        self.robots = [Robot(self, f"arm{number}") for number in range(robots)]

    def run(self, steps: int) -> None:
        """Let the robots make `steps` steps among all mishaps, then let all that is under way come to an end without any."""
        while self.made < steps:
            for robot in self.robots:
                robot.policy(self.surroundings.random.randrange(20))
            self._mishaps()
            self.round()
        self.chances.kill = self.chances.power_cut = self.chances.disk = 0.0
        for node in self.nodes:
            node.disk.failing, node.disk.cut_in = 0.0, None
        for _ in range(20_000):
            self.round()
            if self._quiet():
                return
        raise AssertionError("it never comes to rest")

    @property
    def nodes(self) -> list[Robot | Learner]:
        """Everything that can be killed."""
        return [*self.robots, self.learner]

    def _quiet(self) -> bool:
        inbox = self.learner.inbox
        return inbox is not None and all(
            robot.core is not None
            and robot.spool.waiting == 0
            and inbox.durable(robot.name, robot.journal.identity) == robot.journal.durable_sequence
            and robot.side.status.waiting == 0
            for robot in self.robots
        )

    def round(self) -> None:
        """10 ms of everything."""
        self.surroundings.now_ns += ROUND_NS
        for robot in self.robots:
            self._run(robot)
        for peer, frames in self.to_learner.arrived():
            self.learner.receive(peer, frames)
        self._run(self.learner)
        by_peer = {robot.peer: robot for robot in self.robots if robot.core is not None}
        for peer, frames in self.to_robots.arrived():
            if peer in by_peer:
                by_peer[peer].side.receive(frames, self.surroundings.now_ns)

    def _run(self, node: Robot | Learner) -> None:
        try:
            node.round()
        except PowerCut:
            self.ends["power cut"] += 1
            node.power_cut()

    def _mishaps(self) -> None:
        draw = self.surroundings.random
        for node in self.nodes:
            if draw.random() < self.chances.kill:
                self.ends["kill"] += 1
                node.kill()
            if draw.random() < self.chances.power_cut and node.disk.cut_in is None:
                node.disk.cut_in = draw.randrange(12)


def written_payloads(robot: Robot) -> list[bytes]:
    """Return the payloads of everything in the robot's journal, in order."""
    journal, payloads, sequence = robot.journal, [], robot.journal.first_sequence
    while sequence <= journal.durable_sequence:
        for entry in journal.read(sequence, 1 << 20):
            payloads.append(entry.payload)
            sequence = entry.following
    return payloads
