"""A learner that comes back: how fast does it take in what a robot kept while it was away? One line, and JSON with host facts.

python bench/away.py [--quota-bytes 36000000] [--updates-per-step 0.9] [--without-keys] [--artifact DIR] [--folder DIR]
                     [--out FILE]

A robot's journal is filled up to its quota, by default that of an hour at 20 Hz, as fast as the disk takes it, then
`poco-learner serve` is started. As soon as there is room the robot works on at 20 Hz, and the learner learns meanwhile. The drain
begins with the last report of the robot (there is one a second) that says the learner has nothing and ends with the first that
says it has everything. In the end the replay is compared with what was recorded; a difference ends the program with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from armless_robot import ArmlessRobot, free_address, make_keys, processor_s
from robots import ARTIFACT, REPLAY_BYTES, replayed
from served_learner import ServedLearner

from poco.artifact import read_artifact
from poco.journal.records import Boot, Ended, Stepped
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.entrance import Entrance
from poco.runtime.run_folder import HostFacts, host_facts
from poco.specification import Specification

ROBOT = "arm1"
EPISODE_STEPS = 80
FILL_EPISODES = 10
POLL_S = 0.01
PATIENCE_S = 600.0

EpisodeName = tuple[str, int, int]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON: what had been kept, how long the learner took for it, how many steps were made meanwhile, and processor times."""

    command: list[str]
    computer: HostFacts
    load_average: tuple[float, float, float]
    kept_steps: int
    kept_bytes: int
    kept_for_s: float
    drain_s: float
    times_real_time: float
    in_replay_after_s: float
    steps_meanwhile: int
    updates_meanwhile: int
    link_processor_s: float
    learner_processor_s: float
    wrong: int


class Recorder:
    """Stands for a policy: makes steps of random numbers, 80 an episode, and remembers them."""

    def __init__(self, robot: ArmlessRobot, specification: Specification) -> None:
        self.entrance = Entrance(robot.options.run_name, f"policy-{robot.options.boot_epoch}")
        self.recorded: dict[EpisodeName, npt.NDArray[np.float32]] = {}
        self.steps = 0
        self._specification, self._boot_epoch = specification, robot.options.boot_epoch
        self._random = np.random.default_rng(0)
        self._rows: list[npt.NDArray[np.float64]] = []
        boot = Boot(
            robot=ROBOT,
            boot_epoch=self._boot_epoch,
            generation=1,
            specification=specification,
            specification_hash=specification.digest(),
        )
        self.entrance.offer(boot)

    @property
    def may_go_on(self) -> bool:
        """Whether an episode is under way or one may begin."""
        self.entrance.pump()
        return bool(self._rows) or not self.entrance.spool.trouble

    def step(self) -> None:
        """Record a step, and the end of the episode with its last one."""
        seen, episode = self._specification.observation_size, len(self.recorded)
        row = self._random.uniform(-1.0, 1.0, seen + self._specification.action_size)
        observation, action = row[:seen].tolist(), row[seen:].tolist()
        step = Step(
            key=StepKey(ROBOT, self._boot_epoch, episode, len(self._rows)),
            tick=50 * self.steps,
            generation=1,
            chunk_id=1 + self.steps // 5,
            observation=observation,
            action_policy=action,
            action_executed=action,
            reward=0.0,
        )
        self.entrance.offer(Stepped(step=step))
        self.steps += 1
        self._rows.append(row)
        if len(self._rows) == EPISODE_STEPS:
            self._end(episode, observation)

    def _end(self, episode: int, observation: list[float]) -> None:
        end = EpisodeEnd(
            robot=ROBOT,
            boot_epoch=self._boot_epoch,
            episode=episode,
            tick=50 * self.steps,
            final_observation=observation,
            outcome="failure",
            terminated=True,
            truncated=False,
        )
        self.entrance.offer(Ended(end=end))
        self.recorded[ROBOT, self._boot_epoch, episode] = np.array(self._rows, np.float32)
        self._rows = []


def fill(recorder: Recorder) -> None:
    """Record episodes until the journal takes no new one."""
    while recorder.may_go_on:
        for _ in range(FILL_EPISODES * EPISODE_STEPS):
            recorder.step()
        if not recorder.entrance.settle(PATIENCE_S):
            raise RuntimeError(f"the journal does not take what there is: {recorder.entrance.spool.trouble}")


def drain(robot: ArmlessRobot, recorder: Recorder, period_s: float) -> tuple[float, float]:
    """Work on every `period_s` where there is room until the learner has everything; return when it began and when it was done."""
    began_s, due_s = time.monotonic(), 0.0
    deadline_s = began_s + PATIENCE_S
    while True:
        now_s = time.monotonic()
        report = robot.report
        assert report.link is not None
        if report.link.acknowledged == 0:
            began_s = now_s
        elif report.link.waiting <= 1.0 / period_s:
            return began_s, now_s
        if now_s > deadline_s:
            raise RuntimeError(f"the learner does not take what there is: {report}")
        if now_s >= due_s and recorder.may_go_on:
            recorder.step()
            due_s = max(due_s + period_s, now_s)
        time.sleep(POLL_S)


def measure(
    folder: Path, quota_bytes: int, artifact: Path, host: str, updates_per_step: float, with_keys: bool
) -> Report:
    """Fill a journal of `quota_bytes` in `folder`, start the learner, and watch."""
    specification = read_artifact(artifact).specification
    made, (mine,) = make_keys(folder, ROBOT)
    learner_keys, keys = (made, mine) if with_keys else (None, None)
    address = free_address(host)
    quota = {"journal.quota_bytes": str(quota_bytes)}
    robot = ArmlessRobot(folder, ROBOT, address, keys, specification, **quota)
    learner = None
    try:
        recorder = Recorder(robot, specification)
        fill(recorder)
        kept_steps, kept_bytes = recorder.steps, sum(file.stat().st_size for file in robot.journal.glob("*.seg"))
        link_before_s = processor_s(robot.process.pid)
        learner = ServedLearner(folder, artifact, address, learner_keys, updates_per_step, REPLAY_BYTES)
        began_s, done_s = drain(robot, recorder, 1.0 / specification.rate_hz)
        meanwhile = recorder.steps - kept_steps
        link_s, learner_s = processor_s(robot.process.pid) - link_before_s, processor_s(learner.process.pid)
        learner.wait_until(lambda: bool(learner.status), "for the learner's word")
        updates, kept_episodes = int(learner.status["updates"]), kept_steps // EPISODE_STEPS
        learner.wait_until(lambda: int(learner.status["episodes"]) >= kept_episodes, "for the replay")
        replayed_s = time.monotonic() - began_s
        while recorder.steps % EPISODE_STEPS:
            recorder.step()
        recorder.entrance.settle(PATIENCE_S)
        total = len(recorder.recorded)
        learner.wait_until(lambda: int(learner.status["episodes"]) == total, f"for {total} episodes")
        robot.stop()
        assert learner.stop() == 0
    finally:
        robot.process.kill()
        if learner is not None:
            learner.kill()
    stored = replayed(learner.out / "replay", specification)
    nothing = np.zeros((0, 0), np.float32)
    same = [name for name, rows in recorder.recorded.items() if np.array_equal(stored.pop(name, nothing), rows)]
    return Report(
        command=sys.argv,
        computer=host_facts(),
        load_average=os.getloadavg(),
        kept_steps=kept_steps,
        kept_bytes=kept_bytes,
        kept_for_s=kept_steps / specification.rate_hz,
        drain_s=done_s - began_s,
        times_real_time=kept_steps / specification.rate_hz / (done_s - began_s),
        in_replay_after_s=replayed_s,
        steps_meanwhile=meanwhile,
        updates_meanwhile=updates,
        link_processor_s=link_s,
        learner_processor_s=learner_s,
        wrong=total - len(same) + len(stored),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quota-bytes", type=int, default=36_000_000)
    parser.add_argument("--updates-per-step", type=float, default=0.9)
    parser.add_argument("--without-keys", action="store_true", help="a link without CURVE")
    parser.add_argument("--artifact", type=Path, default=ARTIFACT)
    parser.add_argument("--host", default="127.0.18.63", help="loopback address of the learner")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="on which disk journal and inbox are")
    parser.add_argument("--out", type=Path)
    flags = parser.parse_args()
    flags.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=flags.folder) as made:
        report = measure(
            Path(made), flags.quota_bytes, flags.artifact, flags.host, flags.updates_per_step, not flags.without_keys
        )
    print(
        f"{report.kept_steps} steps ({report.kept_bytes / 1e6:.1f} MB, {report.kept_for_s / 60:.0f} min at 20 Hz) drained in "
        f"{report.drain_s:.1f} s: {report.times_real_time:.0f} x real time; in the replay after {report.in_replay_after_s:.1f} s; "
        f"meanwhile {report.steps_meanwhile} new steps and {report.updates_meanwhile} updates; processor time "
        f"{report.link_processor_s:.1f} s link, {report.learner_processor_s:.1f} s learner with its start; "
        f"load {report.load_average[0]:.1f}; {report.wrong} episodes wrong"
    )
    if flags.out:
        flags.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
