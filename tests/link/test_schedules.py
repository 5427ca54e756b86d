"""Seeded schedules of a whole small world: whatever is lost, doubled, overtaken or killed, the replay equals the journals."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from link_world import Chances, World, written_payloads
from poco.journal.records import Ended, Missing, Record, Stepped, decode
from poco.learner.inbox import Received, read_kept
from poco.learner.replay import Replay
from poco.records import Step
from poco.specification import Specification

SEEDS = 200
STEPS = 5_000
PARTS = 8
POWER_CUTS = 100

EpisodeKey = tuple[str, int, int]


def received(world: World) -> dict[tuple[str, str], list[bytes]]:
    """What the inbox still holds of every journal, in order and without a hole."""
    inbox = world.learner.inbox
    assert inbox is not None
    found: dict[tuple[str, str], list[bytes]] = {}
    following: dict[tuple[str, str], int] = {}
    for entry in inbox._log.all():
        kept = read_kept(entry.payload)
        if isinstance(kept, Received):
            key = kept.robot, kept.journal
            first = kept.sequence if not world.reclaims else 1
            assert kept.sequence == following.get(key, first)
            following[key] = kept.sequence + kept.span
            found.setdefault(key, []).append(kept.payload)
    for robot in world.robots:
        key = robot.name, robot.journal.identity
        assert following.get(key, robot.journal.durable_sequence + 1) == robot.journal.durable_sequence + 1
    return found


def whole_episodes(robot: str, records: list[Record]) -> Iterator[tuple[EpisodeKey, list[Step]]]:
    """Episodes that are there from the first step to their end, in the order in which they ended."""
    opened: dict[EpisodeKey, list[Step]] = {}
    for record in records:
        match record:
            case Stepped(step=step):
                opened.setdefault((robot, step.key.boot_epoch, step.key.episode), []).append(step)
            case Ended(end=end):
                steps = opened.pop((end.robot, end.boot_epoch, end.episode), [])
                if [step.key.step for step in steps] == list(range(len(steps))) and steps:
                    yield (end.robot, end.boot_epoch, end.episode), steps


def replayed(replay: Replay) -> list[tuple[EpisodeKey, list[float]]]:
    """Episodes of the replay in its order, as keys and observations."""
    table = np.array(replay._table[replay._table["number"] > 0])
    found = []
    for row in table[np.argsort(table["number"])]:
        rows = replay._steps[int(row["first"]) : int(row["first"]) + int(row["steps"])]
        key = row["robot"].decode(), int(row["boot_epoch"]), int(row["episode"])
        found.append((key, rows["observation"][:, 0].tolist()))
    return found


def agree(one: list[bytes], other: list[bytes]) -> list[bytes]:
    """Return the longer of two streams, of which the shorter must be the end."""
    short, long = sorted((one, other), key=len)
    assert long[len(long) - len(short) :] == short
    return long


def check(world: World) -> None:
    """Every promise about what arrived, after everything has come to rest."""
    there, replay = received(world), replayed(world.learner.replay)
    for robot in world.robots:
        arrived = there.get((robot.name, robot.journal.identity), [])
        payloads = agree(written_payloads(robot), arrived)
        assert payloads is arrived or not world.reclaims
        decoded = [written for payload in payloads if (written := decode(payload)) is not None]
        assert not any(isinstance(written.record, Missing) for written in decoded)
        for number, told in enumerate(robot.past, start=1):
            kept = [written.record for written in decoded if written.writer == f"policy-{number}"]
            assert kept == told.records[: len(kept)]
            assert len(kept) >= told.durable
        expected = list(whole_episodes(robot.name, [written.record for written in decoded]))
        mine = [episode for episode in replay if episode[0][0] == robot.name]
        assert mine == [
            (key, [float(np.float32(step.observation[0])) for step in steps])
            for key, steps in expected[len(expected) - len(mine) :]
        ]
    assert len(replay) >= min(world.learner.admitted.episodes, 3)


def run(seed: int, specification: Specification, folder: Path, steps: int, chances: Chances) -> World:
    told = f"seed {seed}, {steps} steps, {chances}"
    world = World(seed, specification, folder / str(seed), chances, robots=1 + seed % 3)
    try:
        world.run(steps)
        check(world)
    except BaseException as error:
        error.add_note(told)
        raise
    finally:
        shutil.rmtree(folder / str(seed))
    return world


@pytest.mark.parametrize("part", range(PARTS))
def test_replay_equals_journal(part: int, specification: Specification, tmp_path: Path) -> None:
    """30 % of all messages lost, doubled or late, both sides killed and cut off: the replay has every episode once, in order."""
    ends, fate = 0, 0
    for seed in range(part, SEEDS, PARTS):
        world = run(seed, specification, tmp_path, STEPS, Chances())
        assert world.to_learner.fate["lost"] > 0
        assert world.to_learner.fate["doubled"] > 0
        ends += world.ends.total()
        fate += world.to_learner.fate["sent"]
    assert ends > SEEDS // PARTS
    assert fate > SEEDS // PARTS


def cut(seed: int, specification: Specification, folder: Path) -> int:
    """A short world whose machines often lose power and whose disks often fail; return how many power cuts there were."""
    chances = Chances(message=0.1, kill=0.01, power_cut=0.08, disk=0.02)
    return run(seed, specification, folder, 600, chances).ends["power cut"]


def test_power_cuts_lose_nothing_acknowledged(specification: Specification, tmp_path: Path) -> None:
    """Power cuts in the middle of any disk operation, torn ends and failing disks: what was said to be durable is there."""
    cuts, seed = 0, 0
    while cuts < POWER_CUTS:
        cuts += cut(seed, specification, tmp_path)
        seed += 1


@pytest.mark.proof
def test_a_thousand_power_cuts(specification: Specification, tmp_path: Path) -> None:
    """The same until there were POCO_COUNT (1,000) power cuts, from seed POCO_SEED on."""
    count, seed = int(os.environ.get("POCO_COUNT", "1000")), int(os.environ.get("POCO_SEED", "1000"))
    cuts, first = 0, seed
    while cuts < count:
        cuts += cut(seed, specification, tmp_path)
        seed += 1
    print(
        f"\n{cuts} power cuts in seeds {first} to {seed - 1}: 0 acknowledged steps lost (at 95 %: fewer than {3 / cuts:.1e})"
    )


def test_same_seed_same_world(specification: Specification, tmp_path: Path) -> None:
    """A seed gives the same messages and the same journals, bit for bit; another seed does not."""

    def digest(seed: int) -> str:
        world = World(seed, specification, tmp_path / str(seed), Chances(), robots=2)
        world.run(500)
        shutil.rmtree(tmp_path / str(seed))
        content = b"".join(b"".join(written_payloads(robot)) for robot in world.robots)
        return hashlib.sha256(content + str(world.to_learner.fate).encode()).hexdigest()

    assert digest(3) == digest(3)
    assert digest(3) != digest(4)
