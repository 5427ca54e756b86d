"""Everything a policy process does but the model: newest frames and state to a published chunk, against bare round trips."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from poco.chunks import ChunkSequence
from poco.frames import Frame, FrameRing, ring_name
from poco.images import crop_and_normalise
from poco.limits import PLANNING_MARGINS, fr3_limits
from poco.observation import observe
from poco.records import FRAME_HEAD, ROBOT_STATE, TaskSignal
from poco.runtime.benchmarks.echo import shared_memory, zeromq
from poco.runtime.benchmarks.native_loop import READY_RAD, WIDE_GUARDS
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome
from poco.shm import RunMemory
from poco.specification import Field, Specification

CAMERAS = 2
IMAGE = (3, 224, 224)
CHUNK_STEPS, ACTION_SIZE = 50, 8
SWING_RAD = 0.05
SWING_STEPS = 100
GRIPPER_M = 0.04
IMAGE_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGE_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
STAGES = ("images", "observation", "plan", "publish")
SIGNAL = TaskSignal(
    tick=0, target_position=(0.5, 0.0, 0.0), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
)


def specification(rate_hz: float) -> Specification:
    """Return a policy that sees the joints and commands chunks of 50 joint positions, half of which are executed."""
    low, high = tuple((READY_RAD - 0.2).tolist()), tuple((READY_RAD + 0.2).tolist())
    still = (-2.0,) * 7
    seen = (
        Field(name="q", source="joint_position", frame="joint", unit="rad", low=low, high=high),
        Field(name="dq", source="joint_velocity", frame="joint", unit="rad/s", low=still, high=(2.0,) * 7),
    )
    return Specification(
        name="observe_to_chunk",
        robot="fr3",
        rate_hz=rate_hz,
        chunk_steps=CHUNK_STEPS,
        execute_steps=CHUNK_STEPS // 2,
        delay_steps=1,
        action_space="joint_position",
        delta_base="none",
        gripper="none",
        flange_t_tip=tuple(np.eye(4).ravel().tolist()),
        rest_q=tuple(READY_RAD.tolist()),
        observation=seen,
        action=(Field(name="q", source="joint_position", frame="joint", unit="rad", low=low, high=high),),
    )


class Policy:
    """A policy process without its model, with the cameras and the servo it needs; `close` removes their memory."""

    def __init__(self, rate_hz: float) -> None:
        self.specification = specification(rate_hz)
        name = f"bench-{os.getpid()}"
        self.memory = RunMemory.create(name)
        self.cameras = [FrameRing(ring_name(name, f"camera{number}"), IMAGE[1:]) for number in range(CAMERAS)]
        limits = fr3_limits(PLANNING_MARGINS, WIDE_GUARDS, self.specification.tip)
        self.sequence = ChunkSequence(self.specification, limits)
        self.sequence.begin(0, READY_RAD)
        self.images = np.zeros((CAMERAS, *IMAGE), np.float32)
        self.stretched = 0
        pixels = np.random.default_rng(0).integers(0, 256, (*IMAGE[1:], 3), np.uint8)
        self._frame, self._state = Frame(np.zeros((), FRAME_HEAD), pixels), np.zeros((), ROBOT_STATE)
        self._state["q"] = self._state["q_c"] = READY_RAD

    def look(self) -> None:
        """Let cameras and servo publish what is new at the observation tick (not measured)."""
        tick = self.sequence.observation_tick
        self._frame.head["tick"] = self._state["tick"] = tick
        for camera in self.cameras:
            camera.publish(self._frame)
        self.memory.publish_state(self._state)

    def model(self) -> Floats:
        """Return what a model might answer [50, 8]: a slow swing that goes on from chunk to chunk (not measured)."""
        steps = self.sequence.attach_tick / self.specification.period_ticks + 1.0 + np.arange(CHUNK_STEPS)
        swing = np.cos(2.0 * np.pi * steps / SWING_STEPS) - 1.0
        return np.column_stack([np.outer(swing, np.full(7, SWING_RAD / 0.2)), np.full(CHUNK_STEPS, GRIPPER_M)])

    def chunk(self, actions: Floats) -> npt.NDArray[np.int64]:
        """Do it all once with the `actions` of the model; return the time of each stage [4] (ns)."""
        stamps_ns = [time.monotonic_ns()]
        for camera, image in zip(self.cameras, self.images, strict=True):
            frame = camera.newest()
            assert frame is not None
            crop_and_normalise(frame.pixels, 0, 0, IMAGE_MEAN, IMAGE_DEVIATION, image)
        stamps_ns.append(time.monotonic_ns())
        state = self.memory.read_state()
        assert state is not None
        observe(state, SIGNAL, self.specification)
        stamps_ns.append(time.monotonic_ns())
        plan, _ = self.sequence.plan(actions[:, :7])
        plan.spline["gripper"][:CHUNK_STEPS] = actions[:, 7]
        stamps_ns.append(time.monotonic_ns())
        self.memory.publish_chunk(plan.spline)
        stamps_ns.append(time.monotonic_ns())
        self.stretched += plan.stretched
        return np.diff(stamps_ns)

    def measure(self, chunks: int) -> Floats:
        """Return the time of each stage of `chunks` consecutive chunks [chunks, 4] (us)."""
        stages_us = np.zeros((chunks, len(STAGES)))
        for row in stages_us:
            self.look()
            row[:] = self.chunk(self.model()) * 1e-3
        return stages_us

    def close(self) -> None:
        """Remove the shared memory."""
        self.memory.unlink()
        for camera in self.cameras:
            camera.unlink()


def run(repeats: int, chunks: int, rate_hz: float) -> Outcome:
    """Alternate `repeats` times `chunks` observations with as many round trips of each kind; raises PocoError without pyzmq."""
    observation = bytes(CAMERAS * (FRAME_HEAD.itemsize + int(np.prod(IMAGE))) + ROBOT_STATE.itemsize)
    answer = bytes(CHUNK_STEPS * ACTION_SIZE * 8)
    samples: dict[str, list[Floats]] = {}
    with ExitStack() as stack:
        rivals = {
            "shared_memory": stack.enter_context(shared_memory(observation, answer)),
            "zeromq": stack.enter_context(zeromq(observation, answer)),
        }
        policy = Policy(rate_hz)
        stack.callback(policy.close)
        policy.measure(20)
        policy.stretched = 0
        for _ in range(repeats):
            stages_us = policy.measure(chunks)
            samples.setdefault("observe_to_chunk", []).append(stages_us.sum(axis=1))
            for stage, column in zip(STAGES, stages_us.T, strict=True):
                samples.setdefault(stage, []).append(column)
            for name, round_trip in rivals.items():
                samples.setdefault(name, []).append(timed(round_trip, chunks))
    order = ("observe_to_chunk", *rivals, *STAGES)
    return Outcome(
        "observe-to-chunk",
        f"{CAMERAS} frames and state in shared memory to a published chunk of {CHUNK_STEPS} x {ACTION_SIZE} at {rate_hz:g} Hz",
        [Measurement(name, samples[name]) for name in order],
        [("observe_to_chunk", name) for name in rivals],
        [
            "the model itself is left out; " + ", ".join(STAGES) + " are the parts of observe_to_chunk",
            f"{policy.stretched} of {repeats * chunks} plans took longer than their natural time",
            "the round trips only move the same bytes to another process and an answer back; they plan nothing",
        ],
    )


def timed(call: Callable[[], None], count: int) -> Floats:
    """Return the time of each of `count` calls [count] (us)."""
    spent_ns = np.zeros(count)
    for number in range(count):
        before_ns = time.monotonic_ns()
        call()
        spent_ns[number] = time.monotonic_ns() - before_ns
    return spent_ns * 1e-3
