"""A learner serves robots: real processes, sockets, disks, keys and kills; only the arm is missing."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
import urllib.error
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load

from link_run import PATIENCE_S, LinkRun, free_address, until
from poco.artifact import Artifact, Manifest
from poco.learner.checkpoint import Checkpoint
from poco.learner.learning import Learning, Run
from poco.learner.link_server import LinkServer
from poco.learner.metrics import read_figures
from poco.learner.publications import Publications, PublishSettings, read_publications
from poco.learner.publish import Publisher, policy_of
from poco.learner.recipe import TrainingSettings
from poco.learner.replay import Replay
from poco.learner.service import FLOOR_SPAN, Service, floor_of
from poco.learner.service_status import status_of
from poco.learner.success_guard import GuardSettings
from poco.learner.trained_policy import flow_policy
from poco.offer import unpack_offer
from poco.runtime.gate import judge
from poco.runtime.store import ArtifactStore
from recipes import reach_recipe
from served import Served
from synthetic_run import specification as other_specification
from workshop import Workshop

LENGTH = 15
UPDATES_PER_STEP = 1.05 / LENGTH
"""One an episode, for a few episodes: of two the service may take each in a turn of its own, and publish in between."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def recipe(**changes: Any) -> TrainingSettings:
    """The reach task's recipe, which publishes every few updates."""
    publish = PublishSettings(updates=5, interval_s=0.0)
    return reach_recipe(**{"warm_up_steps": LENGTH, "bf16_sampling": "off", "publish": publish, **changes})


def received(folder: Path, robot: str) -> dict[int, str]:
    """The hash of every offer that came to `robot`, by generation; no generation came with two contents."""
    found: dict[int, str] = {}
    for file in sorted((folder / f"store-{robot}" / "incoming").glob("*.offer")):
        content = file.read_bytes()
        generation = msgspec.json.decode(unpack_offer(content).manifest, type=Manifest).generation
        digest = hashlib.sha256(content).hexdigest()
        assert found.setdefault(generation, digest) == digest
    return found


def get(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Status code and content of a page."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://{address}{path}", None, headers, method=method)
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_robots_are_served(artifact: Artifact, tmp_path: Path) -> None:
    """What two robots send becomes generations above what either has seen, which a gate takes; a stranger hears why not."""
    workshop = Workshop(artifact, tmp_path)
    assert judge(workshop.first(), workshop.store, workshop.trust, workshop.rules).reason == ""
    for store in (workshop.store, ArtifactStore(tmp_path / "store-ahead")):
        store.raise_floor(7, 1)
    page = free_address("127.0.18.51").removeprefix("tcp://")
    served = Served(tmp_path, artifact, recipe(), workshop.key, "127.0.18.51", status=page)
    served.start()
    served.until(lambda: bool(served.status), "for the first status")
    robots = [
        LinkRun(tmp_path, name, served.address, specification=artifact.specification) for name in ("ahead", "new")
    ]
    stranger = LinkRun(tmp_path, "stranger", served.address, specification=other_specification())
    try:
        served.until(lambda: len(served.status["robots"]) == 2, "for both robots")
        for robot, episodes in zip(robots, (4, 2), strict=True):
            robot.writer.begin()
            robot.writer.make(episodes * LENGTH, LENGTH)
            robot.writer.settle()
        served.until(lambda: all(received(tmp_path, name) for name in ("ahead", "new")), "for offers")
        until(
            lambda: (
                stranger.report.link is not None and "start both from the same artifact" in stranger.report.link.trouble
            )
        )
        served.until(lambda: served.status["owed"] == 0 and served.status["episodes"] == 6, "for the updates")
        served.until(lambda: served.status["robots"]["ahead"]["generation"] > 8, "for the robot to say what it has")
        code, document = get(page, "/status.json")
        status = msgspec.json.decode(document)
        assert (code, status["robots"]["ahead"]["connected"], status["successes_20"]) == (200, True, 6)
        assert (status["steps"], status["updates"], list(status["robots"])) == (90, 45, ["ahead", "new"])
        assert status["robots"]["ahead"]["driving"] == 1
        code, text = get(page, "/metrics")
        assert code == 200
        assert "poco_learner_episodes 6.0\n" in text
        assert 'poco_learner_robot_connected{robot="ahead"} 1.0\n' in text
        assert get(page, "/elsewhere")[0] == 404
        assert get(page, "/status.json", "POST")[0] == 501
        assert get(page, "/status.json", Host="localhost:1")[0] == 200
        assert get(page, "/status.json", Host="strange.example:1")[0] == 421
        assert served.stop() == 0, served.log
    finally:
        served.kill()
        for run in (*robots, stranger):
            run.kill()
    publications = read_publications(served.out)
    assert (publications[0].generation, publications[0].parent, publications[0].cause) == (8, 1, "learned")
    assert [one.parent for one in publications[1:]] == [one.generation for one in publications[:-1]]
    newest = max((tmp_path / "store-ahead" / "incoming").glob("*.offer")).read_bytes()
    verdict = judge(unpack_offer(newest), workshop.store, workshop.trust, workshop.rules)
    assert verdict.reason == "", verdict.sentence
    names = {"policy.safetensors", "best", "states", "replay", "inbox", "metrics.jsonl", "curves.png", "status.json"}
    assert {item.name for item in served.out.iterdir()} == names | {"publications.jsonl", "published.offer"}
    origins = [one.origin for one in read_figures(served.out)]
    for name, episodes in (("ahead", 4), ("new", 2)):
        assert [(one.episode, one.generation, one.steps) for one in origins if one and one.robot == name] == [
            (episode, 1, LENGTH) for episode in range(episodes)
        ]


def test_one_robot_cannot_carry_the_generations_off() -> None:
    """The floor is the highest generation seen within the span that robots allow; a claim beyond it does not count."""
    assert floor_of({}, 5) == 0
    assert floor_of({"a": 3, "b": 5 + FLOOR_SPAN}, 5) == 5 + FLOOR_SPAN
    assert floor_of({"a": 3, "b": 6 + FLOOR_SPAN}, 5) == 3
    assert floor_of({"mad": 1 << 62}, 5) == 0


def kill_service(tmp_path: Path, artifact: Artifact, host: str, lives: int, seed: int) -> None:
    """Kill a service `lives` times, most of them while it writes, while a robot works; then check everything that is left."""
    dice = random.Random(seed)
    settings = recipe(checkpoint_interval=2, updates_per_step=1.0, batch=4)
    settings = msgspec.structs.replace(settings, publish=PublishSettings(updates=12, interval_s=0.0))
    served = Served(tmp_path, artifact, settings, Workshop(artifact, tmp_path).key, host)
    robot = LinkRun(tmp_path, "arm", served.address, specification=artifact.specification)
    try:
        robot.writer.begin()
        for life in range(lives):
            robot.writer.make(3 * LENGTH, LENGTH)
            robot.writer.settle()
            before = len(read_publications(served.out))
            served.start(fatal=dice.randint(1, 40) if life % 3 else None)
            if life % 3:
                served.process.join(PATIENCE_S)
                assert served.process.exitcode == -signal.SIGKILL, served.log
            else:
                served.until(lambda: len(read_publications(served.out)) > before, "for a publication")  # noqa: B023
                time.sleep(0.3 * dice.random())
                served.kill()
        served.start()
        count = robot.writer.episode

        served.until(lambda: served.status.get("episodes") == count, f"for {count} episodes")
        assert served.stop() == 0, served.log
    finally:
        served.kill()
        robot.kill()
    origins = [one.origin for one in read_figures(served.out)]
    assert [one.episode for one in origins if one] == list(range(count))
    replay = Replay.open(served.out / "replay", artifact.specification)
    assert (replay.episodes, len(replay)) == (count, count * LENGTH)
    windows = replay.windows(LENGTH * torch.arange(count).numpy())
    assert windows.observation[:, 0].tolist() == pytest.approx(
        [episode * LENGTH % 1000 / 1000 for episode in range(count)]
    )
    generations = [one.generation for one in read_publications(served.out)]
    assert len(generations) >= lives // 3
    assert all(before < after for before, after in pairwise(generations))
    offered = received(tmp_path, "arm")
    assert set(offered) <= set(generations)
    assert list(offered) == sorted(offered)


def test_killed_at_any_moment(artifact: Artifact, tmp_path: Path) -> None:
    """Killed ten times: no episode is lost or counts twice, no generation has two contents."""
    kill_service(tmp_path, artifact, "127.0.18.52", 10, 7)


@pytest.mark.proof
def test_killed_a_hundred_times(artifact: Artifact, tmp_path: Path) -> None:
    """The same with POCO_COUNT (100) kills and POCO_SEED."""
    count, seed = int(os.environ.get("POCO_COUNT", "100")), int(os.environ.get("POCO_SEED", "1000"))
    kill_service(tmp_path, artifact, "127.0.18.54", count, seed)
    print(f"\n{count} kills of a serving learner: 0 episodes lost or doubled, 0 generations given away twice")


def test_what_must_not_leave_and_what_comes_back(artifact: Artifact, tmp_path: Path) -> None:
    """A policy gone astray is withheld and told, the service goes on; failures bring back the generation that drove before."""
    publisher = Publisher(artifact, Workshop(artifact, tmp_path).key, 3600)
    begin = Checkpoint(artifact.specification, policy_of(artifact), {})
    settings = recipe(
        guard=GuardSettings(window=1, margin=0.1, span=1), updates_per_step=UPDATES_PER_STEP, warm_up_steps=0
    )
    server = LinkServer(tmp_path / "inbox", artifact.manifest.specification_hash, "tcp://127.0.18.53:0", None)
    robot = LinkRun(tmp_path, "arm", server.address, specification=artifact.specification)
    try:
        learning = Learning(Run(settings, 0, tmp_path, start=begin), artifact.specification, "the artifact")
        service = Service(
            learning, server, Publications(tmp_path, publisher, PublishSettings(updates=1, interval_s=0.0))
        )

        def drive(generation: int, outcome: str) -> str:
            robot.writer.generation, robot.writer.outcome = generation, outcome
            robot.writer.make(LENGTH, LENGTH)
            robot.writer.settle()
            until(lambda: service.turn() and bool(service.new_figures), "for the episode")
            while learning.owed > 0:
                service.turn()
            return service.new_figures.popleft().verdict

        robot.writer.begin()
        assert drive(1, "success") == "best_so_far"
        learning.progress.guard.baseline = 1.0
        service.turn()
        assert (service.publications.generation, service.publications.withheld) == (2, 0)
        with torch.no_grad():
            flow_policy(learning.policy).velocity_layer.bias.add_(3.0)
        assert drive(2, "failure") == "go_on"
        service.turn()
        assert (service.publications.generation, service.publications.withheld) == (2, 1)
        assert "the golden chunks moved" in status_of(service, 0.0).last_withheld
        assert drive(2, "failure") == "roll_back"
        assert (learning.phase(), service.publications.generation) == ("frozen", 3)
        assert read_publications(tmp_path)[-1].cause == "rolled_back"
        assert service.publications.newest is not None
        published = load(service.publications.newest.files["trained.safetensors"])
        for key, value in artifact.tensors.items():
            assert np.array_equal(published[key], value), key
    finally:
        robot.kill()
        server.close()
