"""A run folder in the real format, made from formulas: smooth joint motion, known timing, known outcomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from poco.records import TICK
from poco.runtime.run_folder import (
    ChunkRecord,
    Dilation,
    EpisodeEnded,
    EpisodeStarted,
    Fault,
    Recovery,
    Reflex,
    RunFacts,
    RunFolder,
    host_facts,
)
from poco.specification import Field, Specification
from poco.trouble import BY_NAME

REST_Q = (0.0, -0.2, 0.0, -2.2, 0.0, 2.0, 0.785)
EPISODE_TICKS = 2000
GAP_TICKS = 50
CHUNK_TICKS = 250
SLOW_TICKS = 3
TURNAROUND_NS = 80_000
AMPLITUDE_RAD = 0.1
ANGULAR_RAD_S = 2.0 * np.pi
OUTCOMES = ("success", "failure", "success", "success")


def specification() -> Specification:
    """A specification with 50 ms periods and one step of delay."""
    return Specification(
        name="synthetic",
        robot="fr3",
        rate_hz=20.0,
        chunk_steps=8,
        execute_steps=5,
        delay_steps=1,
        action_space="joint_position",
        delta_base="none",
        gripper="none",
        flange_t_tip=tuple(np.eye(4).ravel().tolist()),
        rest_q=REST_Q,
        observation=(
            Field(name="q", source="joint_position", frame="joint", unit="rad", low=(-3.0,) * 7, high=(3.0,) * 7),
        ),
        action=(Field(name="q", source="joint_position", frame="joint", unit="rad", low=(-3.0,) * 7, high=(3.0,) * 7),),
    )


def facts() -> RunFacts:
    """Facts of a run in real time on this computer."""
    contract = specification()
    return RunFacts(
        robot="sim",
        host="127.0.0.1",
        artifact="artifacts/synthetic",
        generation=1,
        specification=contract,
        specification_hash=contract.digest(),
        speed=1.0,
        pacing="realtime",
        started_utc="2026-01-01T00:00:00Z",
        computer=host_facts(),
    )


def make_run(path: Path) -> RunFolder:
    """Write four episodes (three succeed), a reflex with recovery, dropped chunks and a few slow ticks into `path`."""
    folder = RunFolder.create(path, facts())
    with folder.open_ticks() as stream:
        for episode, outcome in enumerate(OUTCOMES):
            ticks = episode_ticks(episode)
            stream.write(ticks.tobytes())
            first, last = int(ticks["state"]["tick"][0]), int(ticks["state"]["tick"][-1])
            folder.append_event(EpisodeStarted(tick=first, episode=episode, seed=100 + episode))
            for chunk in episode_chunks(episode, first):
                folder.append_chunk(chunk)
            if outcome == "failure":
                folder.append_event(Reflex(tick=last, errors=["cartesian_reflex"]))
                folder.append_event(Recovery(tick=last, automatic=True))
            folder.append_event(
                EpisodeEnded(tick=last, episode=episode, outcome=outcome, steps=40, ticks=EPISODE_TICKS)
            )
    folder.append_event(Dilation(tick=last, total_s=0.25, longest_s=0.04))
    return folder


def episode_ticks(episode: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """TICK records [EPISODE_TICKS] of one episode: joints on a sine that starts and ends at rest, measured 2 ms behind."""
    ticks = np.zeros(EPISODE_TICKS, TICK)
    first = 1000 + episode * (EPISODE_TICKS + GAP_TICKS)
    ticks["state"]["tick"] = first + np.arange(EPISODE_TICKS)
    ticks["state"]["robot_mode"] = 2
    jitter = np.random.default_rng(episode).integers(0, 20_000, EPISODE_TICKS)
    ticks["state"]["received_ns"] = ticks["state"]["tick"] * 1_000_000 + jitter
    ticks["sent_ns"] = ticks["state"]["received_ns"] + TURNAROUND_NS + jitter
    ticks["sent_ns"][:SLOW_TICKS] += 2_000_000
    ticks["command"]["q"] = joints(np.arange(EPISODE_TICKS))
    ticks["state"]["q"] = joints(np.arange(EPISODE_TICKS) - 2)
    ticks["command"]["chunk_id"] = episode * 8 + 1 + np.arange(EPISODE_TICKS) // CHUNK_TICKS
    ticks["command"]["event"][10] = BY_NAME["chunk_late"].code
    return ticks


def joints(tick: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Joint positions [n, 7] (rad) at `tick` of an episode: one period of 1 - cos every second."""
    swing = AMPLITUDE_RAD * (1.0 - np.cos(ANGULAR_RAD_S * tick * 1e-3)) / 2.0
    return np.add(REST_Q, np.outer(swing, np.linspace(0.4, 1.0, 7)))


def episode_chunks(episode: int, first: int) -> list[ChunkRecord]:
    """Eight chunks, observed one period before they attach; the last is late."""
    chunks = []
    for number in range(8):
        attach = first + number * CHUNK_TICKS
        inference = 1_500_000 + 20_000 * number
        chunks.append(
            ChunkRecord(
                chunk_id=episode * 8 + 1 + number,
                episode=episode,
                generation=1,
                observation_tick=attach - 50,
                attach_tick=attach,
                sense_ns=200_000,
                inference_ns=inference,
                planning_ns=700_000,
                total_ns=900_000 + inference,
                stretched=number == 3,
                stopped_first=False,
                late=number == 7,
            )
        )
    return chunks


def latched(text: str) -> Fault:
    """A latched fault at tick 1."""
    return Fault(tick=1, code=BY_NAME["jerk_limit"].code, text=text)
