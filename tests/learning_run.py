"""The folder of a demonstration in the real formats of both sides, made from formulas: known outcomes, generations and times."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np

from poco.link.robot_side import LinkStatus
from poco.records import TICK
from poco.runtime.demo_learn.records import AUDIT, FACTS, LEARNER, ROBOT, Audit, DemoFacts
from poco.runtime.journal import JournalStatus
from poco.runtime.link import STATUS_FILE, LinkReport
from poco.runtime.run_folder import ChunkRecord, Dilation, EpisodeEnded, EpisodeStarted, GenerationMoved, RunFolder
from synthetic_run import facts

EPISODES, EPISODE_TICKS = 100, 100
SWAP_EVERY, PROBATION = 8, 2
"""A generation gets the arm every so many episodes and is active so many later; the third is thrown out instead."""

THROWN_OUT = 4
PUBLISHED_BEFORE_MS = 400
"""So long before its first chunk was observed a generation was published."""

TURNAROUND_NS, CHUNK_NS, SLOW_NS = 40_000, 2_000_000, 2_000_000
FROZEN = 6
"""So many episodes came while the actor stood still."""

MISSED = 99
"""The episode that has not reached the learner."""

OUTCOMES = ["success" if (37 * n) % 100 < 30 + n // 2 else "truncated" for n in range(EPISODES)]


def generation_of(episode: int) -> int:
    """The generation that drives `episode`: 1 at first, the one before in place of THROWN_OUT after its probation."""
    number = 1 + episode // SWAP_EVERY
    return THROWN_OUT - 1 if number == THROWN_OUT and episode % SWAP_EVERY >= PROBATION else number


def make_demonstration(path: Path) -> None:
    """Write a demonstration of EPISODES episodes into `path`."""
    _robot(RunFolder.create(path / ROBOT, facts()))
    _learner(path / LEARNER)
    done = DemoFacts(
        command=["demo", "--out", "<here>"],
        recipe="recipe.yaml",
        started_utc="2026-01-01",
        ended="after 2 min",
        elapsed_s=150.0,
    )
    (path / FACTS).write_bytes(msgspec.json.encode(done))
    (path / AUDIT).write_bytes(msgspec.json.encode(Audit(clean=True, said=["100 episodes", "audit clean"])))


def _robot(folder: RunFolder) -> None:
    ticks = np.zeros(EPISODES * EPISODE_TICKS, TICK)
    ticks["state"]["tick"] = 1000 + np.arange(len(ticks))
    ticks["state"]["received_ns"] = ticks["state"]["tick"] * 1_000_000
    ticks["sent_ns"] = ticks["state"]["received_ns"] + TURNAROUND_NS
    ticks["sent_ns"][::EPISODE_TICKS] += SLOW_NS
    with folder.open_ticks() as stream:
        stream.write(ticks.tobytes())
    for episode, outcome in enumerate(OUTCOMES):
        first, generation = 1000 + episode * EPISODE_TICKS, generation_of(episode)
        _moves(folder, episode, first)
        folder.append_event(EpisodeStarted(tick=first, episode=episode, seed=episode))
        folder.append_chunk(_chunk(episode, generation, first))
        folder.append_event(
            EpisodeEnded(tick=first + 99, episode=episode, outcome=outcome, steps=40, ticks=EPISODE_TICKS)
        )
    folder.append_event(Dilation(tick=first, total_s=0.5, longest_s=0.1))
    journal = JournalStatus(
        state="recording", used_bytes=1_000_000, quota_bytes=10_000_000, durable=4100, acknowledged=4000
    )
    link = LinkStatus(state="streaming", acknowledged=4000, waiting=100, generation=13, rejected=0, trouble="")
    (folder.path / STATUS_FILE).write_bytes(msgspec.json.encode(LinkReport(journal=journal, link=link)))


def _moves(folder: RunFolder, episode: int, tick: int) -> None:
    """What happens to generations before `episode` starts."""
    number, since = 1 + episode // SWAP_EVERY, episode % SWAP_EVERY

    def move(before: str, after: str, reason: str = "") -> None:
        folder.append_event(GenerationMoved(tick=tick, generation=number, before=before, after=after, reason=reason))

    if number > 1 and since == 0:
        move("verified", "loaded")
        move("loaded", "shadow")
        move("shadow", "probation")
    if number > 1 and since == PROBATION:
        if number == THROWN_OUT:
            move("probation", "rejected", "success: 0 of 2 <episodes>")
        else:
            move("probation", "active")


def _chunk(episode: int, generation: int, tick: int) -> ChunkRecord:
    return ChunkRecord(
        chunk_id=episode + 1,
        episode=episode,
        generation=generation,
        observation_tick=tick,
        attach_tick=tick + 50,
        sense_ns=CHUNK_NS // 4,
        inference_ns=CHUNK_NS // 2,
        planning_ns=CHUNK_NS // 4,
        total_ns=CHUNK_NS,
        stretched=False,
        stopped_first=False,
        late=False,
    )


def _learner(folder: Path) -> None:
    """What poco-learner serve leaves, as far as it is read, with fields beside it that are not."""
    folder.mkdir(parents=True)
    lines = [
        {
            "episode": episode,
            "success": outcome == "success",
            "phase": "frozen" if episode < FROZEN else "learning",
            "origin": {"robot": "fr3", "boot_epoch": 1, "episode": episode, "generation": 1, "steps": 40},
        }
        for episode, outcome in enumerate(OUTCOMES)
        if episode != MISSED
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    published = [
        {
            "generation": number,
            "parent": number - 1,
            "cause": "learned",
            "monotonic_s": (1000 + (number - 1) * SWAP_EVERY * EPISODE_TICKS - PUBLISHED_BEFORE_MS) / 1000.0,
            "episodes": (number - 1) * SWAP_EVERY - 4,
            "updates": 100 * number,
        }
        for number in range(2, 2 + (EPISODES - 1) // SWAP_EVERY)
    ]
    (folder / "publications.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in published) + '{"generation": 99'
    )
    status = {
        "address": "tcp://127.0.0.1:7766",
        "robots": {"fr3": {"connected": True, "generation": 13}},
        "episodes": EPISODES - 1,
        "steps": 40 * (EPISODES - 1),
        "updates": 1300,
        "owed": 12.5,
        "phase": "learning",
        "guard": {"baseline": 0.36, "measured": 20, "roll_backs": 0},
        "generation": len(published) + 1,
        "published": len(published),
        "withheld": 1,
        "last_withheld": "golden chunks moved",
        "refused_episodes": 0,
        "trouble": "",
    }
    (folder / "status.json").write_text(json.dumps(status))
