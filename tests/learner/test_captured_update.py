"""The update that decides on the device and has fixed shapes is the ordinary one; on a GPU, as one graph of kernels."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learning_toys import SMALL, critic_architecture
from poco.episodes import Episode
from poco.learner.agent import Agent
from poco.learner.agent_settings import AgentSettings, Method, Phase
from poco.learner.captured_update import CapturedUpdate
from poco.learner.critic import ChunkCritic
from poco.learner.fast_flow import FastFlow
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.replay import Replay
from poco.learner.replay_mirror import ReplayMirror
from poco.learner.windows import Batch
from poco.specification import Specification

CPU = torch.device("cpu")
SETTINGS: AgentSettings = msgspec.structs.replace(SMALL, candidates=8, eta=0.01, zeta=1.2, endings="completed")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(scope="module")
def replay(
    specification: Specification, demonstrations: tuple[Episode, ...], tmp_path_factory: pytest.TempPathFactory
) -> Replay:
    replay = Replay.create(tmp_path_factory.mktemp("replay"), specification, 1_000_000)
    for episode in demonstrations:
        replay.add(episode.steps, episode.end)
    return replay


@pytest.fixture
def batch(replay: Replay) -> Batch:
    return replay.windows(np.arange(24))


def made(
    specification: Specification, settings: AgentSettings, fixed_shapes: bool = True, device: torch.device = CPU
) -> Agent:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = FlowPolicy(Architecture.of(specification, (32, 32))).to(device)
        critic = ChunkCritic(critic_architecture(specification, settings)).to(device)
    return Agent(FastFlow(policy), critic, settings, specification, fixed_shapes=fixed_shapes)


def everything(agent: Agent) -> list[Tensor]:
    """Weights, target and moments, copied to the CPU."""
    networks: list[nn.Parameter] = [*agent.policy.parameters(), *agent.critic.parameters(), *agent.target.parameters()]
    moments = [value for entry in agent.optimizer.state_dict()["state"].values() for value in entry.values()]
    return [tensor.detach().cpu().clone() for tensor in (*networks, *moments)]


def furthest(one: list[Tensor], two: list[Tensor]) -> float:
    return max(float((mine - other).abs().max()) for mine, other in zip(one, two, strict=True))


def ignore(phase: Phase) -> None:
    """No average follows."""


@pytest.mark.parametrize("method", ["poco", "poco-noestep", "qc", "bc"])
def test_it_ends_where_the_ordinary_update_does(specification: Specification, batch: Batch, method: Method) -> None:
    """Ten updates in each phase on the same batches: the same diagnostics, weights, target and moments to 1e-5."""
    settings = msgspec.structs.replace(SETTINGS, method=method)
    ordinary, fixed = made(specification, settings, fixed_shapes=False), made(specification, settings)
    one, two = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    captured = CapturedUpdate(fixed, lambda: batch, two, ignore)
    phases: tuple[Phase, ...] = ("frozen", "cloning", "learning")
    for phase in phases:
        expected = [ordinary.update(batch, phase, one) for _ in range(10)]
        found = captured.take(10, phase)
        assert found[-1].keys() == expected[-1].keys()
        for name in ("loss", "gradient_norm", "critic_loss"):
            assert found[-1][name] == pytest.approx(expected[-1][name], rel=1e-4)
    assert furthest(everything(ordinary), everything(fixed)) < 1e-5


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_an_insane_update_changes_nothing(specification: Specification, batch: Batch, poison: float) -> None:
    """It is refused and counted, and those before and after it are not."""
    agent = made(specification, SETTINGS)
    batches = [batch, replace(batch, rewards=torch.full_like(batch.rewards, poison)), batch]
    taken = iter(batches)
    captured = CapturedUpdate(agent, lambda: next(taken), torch.Generator().manual_seed(1), ignore)
    assert len(captured.take(1, "learning")) == 1
    before = everything(agent)
    assert captured.take(1, "learning") == []
    assert agent.refused == 1
    assert furthest(before, everything(agent)) == 0.0
    assert len(captured.take(1, "learning")) == 1
    assert agent.refused == 1
    assert furthest(before, everything(agent)) > 0.0


def test_what_follows_is_told_the_phase_of_every_update(specification: Specification, batch: Batch) -> None:
    """Once for each update, after it."""
    told: list[Phase] = []
    captured = CapturedUpdate(
        made(specification, SETTINGS), lambda: batch, torch.Generator().manual_seed(1), told.append
    )
    captured.take(2, "frozen")
    captured.take(1, "learning")
    assert told == ["frozen", "frozen", "learning"]


@needs_gpu
@pytest.mark.parametrize("method", ["poco", "qc", "bc"])
def test_the_graph_computes_what_its_kernels_do_one_by_one(
    specification: Specification, replay: Replay, method: Method
) -> None:
    """Batches from the mirror and noise from the same state of the generator: 30 replayed updates end where 30 started ones do."""
    cuda = torch.device("cuda")
    settings = msgspec.structs.replace(SETTINGS, method=method)
    mirror = ReplayMirror(replay, cuda)
    mirror.refresh()
    phases: tuple[Phase, ...] = ("frozen", "learning", "frozen", "learning")
    ends = []
    for replayed in (True, False):
        agent, generator = made(specification, settings, device=cuda), torch.Generator(cuda).manual_seed(1)

        def sample(generator: torch.Generator = generator) -> Batch:
            return mirror.sample(64, generator)

        if replayed:
            captured = CapturedUpdate(agent, sample, generator, ignore)
            for phase in phases:
                assert len(captured.take(15, phase)) == 15
        else:
            for phase in phases:
                for _ in range(15):
                    agent.update(sample(), phase, generator)
        ends.append(everything(agent))
    assert furthest(*ends) < 1e-4


@needs_gpu
def test_a_graph_refuses_what_is_insane(specification: Specification, replay: Replay) -> None:
    """A reward beyond every bound in the mirror: all updates refused, nothing moved."""
    cuda = torch.device("cuda")
    mirror, agent = ReplayMirror(replay, cuda), made(specification, SETTINGS, device=cuda)
    mirror.refresh()
    generator = torch.Generator(cuda).manual_seed(1)
    poison = torch.zeros((), device=cuda)

    def sample() -> Batch:
        batch = mirror.sample(64, generator)
        return replace(batch, rewards=batch.rewards + poison)

    captured = CapturedUpdate(agent, sample, generator, ignore)
    assert len(captured.take(5, "learning")) == 5
    before = copy.deepcopy(everything(agent))
    poison.fill_(math.inf)
    assert captured.take(5, "learning") == []
    assert agent.refused == 5
    assert furthest(before, everything(agent)) == 0.0
