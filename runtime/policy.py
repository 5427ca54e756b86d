"""The policy process: observe at the servo's ticks, let the actor choose, plan, publish; episode after episode.

Started by the supervisor as `python -m poco.runtime.policy`. No torch here.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from poco.artifact import read_artifact
from poco.chunks import ChunkSequence
from poco.clock import TICKS_PER_SECOND, monotonic_ns
from poco.errors import ArmError, PocoError, exit_with
from poco.hw.task_driver import TaskDriver
from poco.limits import PLANNING_MARGINS, fr3_limits
from poco.motion import plan_path, warm_up
from poco.observation import observe
from poco.records import ROBOT_STATE, Step
from poco.rollout import Look, Observation, Outcome, Rollout
from poco.runtime.actors import Actor, ChunkFigures, CubeOperatorActor, Moment, OperatorActor, PolicyActor
from poco.runtime.backends.backend import Backend
from poco.runtime.backends.choice import Chosen, open_under
from poco.runtime.blind import BlindActor, blind_order
from poco.runtime.chunk_record import Stamps, chunk_record
from poco.runtime.chunk_session import Pixels
from poco.runtime.compiled import CompiledFolder, CompiledWeights
from poco.runtime.demonstrated import Demonstrated
from poco.runtime.episode_book import EpisodeBook
from poco.runtime.eyes import Eyes, cameras_of
from poco.runtime.grid_images import GridImages
from poco.runtime.grip import Grip
from poco.runtime.hands import HandsActor, moves
from poco.runtime.intervention import InterveningActor
from poco.runtime.journal_recorder import JournalRecorder
from poco.runtime.line_reader import LineReader
from poco.runtime.person import DISCARDS, Person
from poco.runtime.plant import RobotPlant, Stopped
from poco.runtime.process_arguments import process_arguments
from poco.runtime.recording import Recording
from poco.runtime.reset import ATTACH_DELAY_TICKS, SETTLE_TICKS, plan_reset
from poco.runtime.run_events import CameraFresh, CameraStale, GripperFresh, GripperStale, InferenceOpened, WeightsMoved
from poco.runtime.run_folder import EpisodeStarted, GenerationMoved, HandsLost, RunFolder
from poco.runtime.run_options import HANDS, OPERATOR, RunOptions
from poco.runtime.store import ArtifactStore
from poco.runtime.swap import Moved
from poco.runtime.swapping import SwappingActor
from poco.shm import RunMemory

RESET_TRIES = 5
START_TOLERANCE_RAD = 1e-3
ROOM_POLL_TICKS = 200
SETTLE_S = 1.0
OPEN_TICKS_MAX, OPEN_POLL_TICKS, OPEN_LEGS = 3000, 20, 50
"""How long the fingers may take to open, how often they are looked at, and motions to nowhere (20 ticks each) that ask for it."""


class PolicyProcess:
    """Holds what one run of the policy needs; every method belongs to the policy process."""

    def __init__(self, options: RunOptions, memory: RunMemory, boot_epoch: int, lines: LineReader) -> None:
        self.options, self.boot_epoch = options, boot_epoch
        self.settings = options.settings
        self.memory = memory
        self.folder = RunFolder.open(Path(options.folder))
        self.person = Person(lines.lines)
        self.person.listens = False  # the first line is the supervisor's word to begin
        self.chosen: Chosen | None = None
        self.actor = self._open_actor()
        self.specification = self.actor.specification
        self.limits = fr3_limits(PLANNING_MARGINS, self.settings.guards.guards(), self.specification.tip)
        warm_up(self.limits)
        self.journal = JournalRecorder(
            options.run_name, self.settings.robot.name, boot_epoch, self.actor.generation, self.specification
        )
        self.folder = replace(self.folder, events_to=self.journal.note)
        if self.chosen is not None:
            facts, remark = self.chosen.backend.facts, self.chosen.remark
            self.folder.append_event(InferenceOpened(tick=0, facts=facts, remark=remark))
        task = self.settings.task
        hidden = options.hidden()
        driver = TaskDriver(task.sensors, task.outcome, task.reset, needed=options.needs_target)
        self.grip = Grip(memory, self.settings.gripper, self._gripper_told) if self.specification.grips else None
        age_max_s, lead_ticks = self.settings.servo.state_age_max_s, options.lead_ticks
        self.plant = RobotPlant(memory, driver, age_max_s, self.person.judge, self.grip, lead_ticks)
        self.book = EpisodeBook(self.folder, self.journal, self.specification)
        self.recording = Recording(self.person, self.book, self.plant, options.episodes, self._renew_ticks)
        newest = memory.read_chunk()
        self.chunk_id = 0 if newest is None else int(newest["chunk_id"])
        self.eyes = self._open_eyes(driver.lockstep)
        self.grid_images = GridImages(self.actor, self.eyes)
        self.demonstrated = None if self.eyes is None or hidden is None else Demonstrated(self.eyes, hidden)
        self._rehearse()

    def _open_actor(self) -> Actor:
        """Return who chooses the chunks of this run, ready to do so; raises ArtifactError."""
        options = self.options
        if options.hands is None:
            return self._open_policy()
        specification = options.specification()
        limits = fr3_limits(PLANNING_MARGINS, self.settings.guards.guards(), specification.tip)
        hands = HandsActor(specification, limits, options.hands, options.seed, self.person, self._hands_lost)
        return hands if options.policy == HANDS else InterveningActor(self._open_policy(), hands)

    def _open_policy(self) -> Actor:
        """Return what chooses where no person does."""
        options = self.options
        if options.policy == OPERATOR:
            specification = options.specification()
            return (
                CubeOperatorActor(specification) if specification.grips else OperatorActor(specification, options.seed)
            )
        actor, self.chosen = open_under(self.settings.inference, self._actor_under)
        return actor

    def _actor_under(self, backend: Backend) -> Actor:
        """Return the policies of this run opened under `backend` and warmed up; raises ArtifactError."""
        options = self.options
        if options.swaps:
            store, swap = ArtifactStore(options.store), self.settings.swap
            compiled = (
                CompiledWeights(CompiledFolder(options.store, self.settings.inference)) if options.compiles else None
            )
            silent_for = self.memory.policy_beat
            return SwappingActor(store, swap, options.seed, self._moved, options.task, backend, compiled, silent_for)
        folders = (options.policy, *options.against)
        policies = [PolicyActor(read_artifact(Path(one)), options.seed, options.task, backend) for one in folders]
        if not options.against:
            return policies[0]
        return BlindActor(policies, blind_order(len(policies), options.episodes // len(policies), options.seed))

    def _open_eyes(self, lockstep: bool) -> Eyes | None:
        """Return the cameras of a policy, or of demonstrations, that see; raises PocoError if they are not there."""
        hands = self.options.hands
        kept = hands is not None and self.options.policy == HANDS
        names, side = (hands.cameras, hands.image_side) if hands is not None and kept else (self.actor.cameras, 0)
        if not names:
            return None
        cameras = cameras_of(names, self.settings.cameras)
        return Eyes(self.actor.encoder, cameras, self.options.run_name, lockstep, self._camera_told, side=side)

    @property
    def _look(self) -> Look:
        """What makes observations."""
        seeing = self.demonstrated or self.eyes
        return observe if seeing is None else seeing.look

    def _camera_told(self, tick: int, camera: str, trouble: str) -> None:
        """Record that what a camera shows may not, or may again, be acted on."""
        self.folder.append_event(
            CameraStale(tick=tick, camera=camera, reason=trouble) if trouble else CameraFresh(tick=tick, camera=camera)
        )

    def _gripper_told(self, tick: int, trouble: str) -> None:
        """Record that the gripper is out of sight, or seen again."""
        self.folder.append_event(GripperStale(tick=tick, reason=trouble) if trouble else GripperFresh(tick=tick))

    def _moves(self, episode: int, state: npt.NDArray[np.void]) -> bool:
        """Look at the scene and at the device; tell whether the hands want to move."""
        assert isinstance(self.actor, HandsActor)
        signal = self.plant.signal()
        observation = observe(state, signal, self.specification)
        return moves(self.actor.look(Moment(episode, 0, observation, state, signal)))

    @property
    def _renew_ticks(self) -> int:
        """How long the arm may be held before a motion to where it is renews the servo's patience."""
        return int(self.settings.servo.hold_timeout_s * TICKS_PER_SECOND / 2)

    def _hands_lost(self, reason: str) -> None:
        """Record that the device in the person's hands is gone."""
        self.folder.append_event(HandsLost(tick=int(self.memory.control()["tick"]), reason=reason))

    def _moved(self, moved: Moved) -> None:
        """Record that a generation has come further or was thrown out."""
        tick, weights = int(self.memory.control()["tick"]), moved.weights
        generation, before, after, reason = moved.generation, moved.before, moved.after, moved.reason
        self.folder.append_event(
            GenerationMoved(tick=tick, generation=generation, before=before, after=after, reason=reason)
            if weights is None
            else WeightsMoved(
                tick=tick, generation=generation, weights=weights, before=before, after=after, reason=reason
            )
        )

    def _rehearse(self) -> None:
        """Go once through observing, choosing and planning at the start pose, so that nothing is loaded during motion."""
        rest = np.array(self.specification.rest_q)
        state = np.zeros((), ROBOT_STATE)
        state["q"] = state["q_c"] = rest
        signal = self.plant.signal()
        observation = self._look(state, signal, self.specification)
        actions = self.actor.choose(Moment(0, 0, observation, state, signal, self._frames))
        sequence = ChunkSequence(self.specification, self.limits)
        sequence.begin(0, rest)
        sequence.plan(actions)
        sequence.stop(1)

    def run(self, first_episode: int) -> None:
        """Run the remaining episodes of this run and bring the arm to rest."""
        self.person.listens = True
        episode = first_episode
        while self._begins(episode):
            self.run_episode(episode)
            episode += 1
        self.plant.settle()
        self.plant.free_run()
        self.journal.settle(SETTLE_S)

    def _begins(self, episode: int) -> bool:
        """Make arm and objects ready for `episode`; False if it is not to be."""
        records = self.options.policy == HANDS
        if not records:
            self.book.obey(self.person.said())
        if self.person.quits or (not records and episode >= self.options.episodes):
            return False
        self._let_go()
        self.go_to_start()
        self._wait_for_room()
        self.plant.place(self.options.seed + episode)
        return not records or self.recording.begins(
            partial(self._moves, episode), partial(self._reset_motion, retract_height_m=0.0)
        )

    def _wait_for_room(self) -> None:
        """Hold the arm where an episode starts as long as the journal could not take it."""
        since_tick = self.plant.tick
        while self.journal.trouble:
            self.plant.wait(self.plant.tick + ROOM_POLL_TICKS)
            if self.plant.tick - since_tick > self._renew_ticks:
                self._reset_motion(retract_height_m=0.0)
                since_tick = self.plant.tick

    def go_to_start(self) -> None:
        """Move the arm to the start pose by a planned motion and let it come to rest there."""
        for _ in range(RESET_TRIES):
            if self._reset_motion(self.settings.task.retract_height_m):
                return
        raise ArmError(f"the start pose was not reached in {RESET_TRIES} motions: free the arm and start again")

    def _let_go(self) -> None:
        """Open the gripper where it is, before the arm moves away from what it holds."""
        if self.grip is None or self.grip.opened():
            return
        held_q = np.array(self.plant.settle()["q_c"])
        self.chunk_id += 1
        attach_tick = self.plant.tick + ATTACH_DELAY_TICKS
        stays = np.tile(held_q, (OPEN_LEGS, 1))
        plan = plan_path(held_q, stays, attach_tick, self.chunk_id, 0, 0, self.limits)
        self.plant.publish(self.grip.opens(plan).spline)
        while not self.grip.opened() and self.plant.tick < attach_tick + OPEN_TICKS_MAX:
            self.plant.wait(self.plant.tick + OPEN_POLL_TICKS)

    def _reset_motion(self, retract_height_m: float) -> bool:
        """Plan and run one motion to the start pose; False if a fault or too large a lead ended it elsewhere."""
        state = self.plant.settle()
        self.chunk_id += 1
        plan = plan_reset(
            np.array(state["q_c"]),
            np.array(state["q"]),
            retract_height_m,
            self.plant.tick + ATTACH_DELAY_TICKS,
            self.chunk_id,
            self.specification,
            self.limits,
            self.options.speed,
        )
        self.plant.publish((plan if self.grip is None else self.grip.opens(plan)).spline)
        end_tick = int(plan.spline["attach_tick"]) + int(plan.spline["knots"][int(plan.spline["segments"])])
        self.plant.wait(end_tick + SETTLE_TICKS)
        reached = self.plant.settle()["q_c"]
        return bool(np.max(np.abs(reached - np.array(self.specification.rest_q))) < START_TOLERANCE_RAD)

    def run_episode(self, episode: int) -> None:
        """Run one episode and leave its file and events in the run folder."""
        sequence = ChunkSequence(
            self.specification,
            self.limits,
            speed=self.options.speed,
            generation=self.actor.generation,
            last_chunk_id=self.chunk_id,
            lead_ticks=self.options.lead_ticks,
        )
        rollout = Rollout(
            self.plant,
            sequence,
            robot=self.settings.robot.name,
            boot_epoch=self.boot_epoch,
            episode=episode,
            episode_steps=self.settings.task.episode_steps,
            look=self._look,
            clear=self._clear,
            seen=self.grid_images.saw,
        )
        first_tick = self.plant.tick + 1
        sequence.human = self.actor.human
        self.person.begin_episode()
        observation = rollout.begin(first_tick)
        started = EpisodeStarted(tick=self.plant.tick, episode=episode, seed=self.options.seed + episode)
        self.folder.append_event(started)
        steps, outcome = self._act(rollout, sequence, observation, episode)
        if outcome != "fault":
            rollout.stop()
        self.person.end_episode()
        self.actor.episode(success=outcome == "success", fault=outcome == "fault")
        self.chunk_id = sequence.last_chunk_id
        end = rollout.end(outcome)
        end = msgspec.structs.replace(end, labels=end.labels | self.actor.labels | self.person.labels)
        self.journal.saw(end, len(steps), self.eyes, self.actor.images_of(self._frames))
        views = None if self.demonstrated is None else self.demonstrated.views(steps)
        self.book.close(steps, end, outcome, self.plant.tick - first_tick, views)
        failed = outcome != "success" and self.options.hands is not None and self.options.hands.only_successes
        if failed or self.person.verdict in DISCARDS:
            self.book.discard()

    def _act(
        self, rollout: Rollout, sequence: ChunkSequence, observation: Observation, episode: int
    ) -> tuple[list[Step], Outcome]:
        """Choose chunk after chunk until the episode is over; return its steps and how it ended."""
        steps: list[Step] = []
        outcome: Outcome = "running"
        chunk = 0
        while outcome == "running":
            if self.plant.stale() or not self._clear():
                outcome, observation = rollout.hold()
                continue
            observed_tick, woken_ns, sensed_ns = self.plant.tick, self.plant.woken_ns, self.plant.sensed_ns
            glance = None if self.eyes is None else self.eyes.glance
            moment = Moment(episode, chunk, observation, rollout.state, rollout.signal, self._frames)
            actions = self.actor.choose(moment)
            stamps = Stamps(observed_tick, woken_ns, sensed_ns, monotonic_ns(), glance)
            sequence.generation, sequence.human = self.actor.generation, self.actor.human
            sequence.execute_steps = self.actor.execute_steps
            sequence.pace(self.options.speed * self.actor.speed)
            transition = rollout.step(
                actions, partial(self.grid_images.meanwhile, sequence.rehearse), self.actor.yields
            )
            plan = transition.plan
            published_ns, late = self.plant.published(int(plan.spline["chunk_id"]))
            self.journal.take(transition, actions, self.actor.generation, episode, self.eyes, self.grid_images)
            self.actor.chunk(ChunkFigures(plan.stretched, plan.stopped_first, late, transition.interrupted))
            self.folder.append_chunk(chunk_record(transition, episode, stamps, published_ns, late))
            steps += transition.steps
            observation, outcome = transition.observation, transition.outcome
            chunk += 1
        return steps, outcome

    @property
    def _frames(self) -> tuple[Pixels, ...]:
        """What cameras show to a policy that takes it whole."""
        return () if self.eyes is None else self.eyes.frames

    def _clear(self) -> bool:
        """Tell whether what was seen last may be acted on."""
        return (self.eyes is None or self.eyes.clear) and (self.grip is None or self.grip.clear)


def main(kind: type[PolicyProcess] = PolicyProcess) -> None:
    """Entry point of the policy process, of whichever `kind`; arguments come from the supervisor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-episode", type=int, help="this is a restart: the episode to begin with")
    arguments, options = process_arguments(parser)
    lines = LineReader(sys.stdin.fileno())
    try:
        memory = RunMemory.attach(options.run_name)
        restarted = arguments.first_episode is not None
        boot_epoch = time.time_ns() // 1_000_000 if restarted else options.boot_epoch
        process = kind(options, memory, boot_epoch, lines)
        memory.policy_beat()
        print("ready" if process.chosen is None else f"ready {process.chosen.sentence}", flush=True)
        if not lines.line():
            return
        gc.freeze()
        process.run(arguments.first_episode or 0)
    except Stopped:
        return
    except PocoError as error:
        exit_with(error)
    except OSError as error:
        exit_with(PocoError(f"the run cannot be recorded in {options.folder} ({error.strerror}): free space there"))


if __name__ == "__main__":
    main()
