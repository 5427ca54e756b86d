"""The learner's update, arranged for speed, is the plain one: the same gradients, and the same weights after many updates."""

from __future__ import annotations

import copy

import msgspec
import numpy as np
import pytest
import torch
from plain_update import PlainUpdate

from learning_toys import SMALL, critic_architecture
from poco.episodes import Episode
from poco.learner import assembly, training_state
from poco.learner.agent import BLOCK_ROWS, Agent
from poco.learner.agent_settings import AgentSettings
from poco.learner.blockwise import blocks
from poco.learner.critic import ChunkCritic
from poco.learner.demonstrations import read_demonstrations
from poco.learner.fast_flow import FastFlow
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.recipe import read_training_settings
from poco.learner.replay import Replay
from poco.learner.trained_policy import flow_policy
from poco.learner.windows import Batch
from poco.specification import Specification
from programs import ROOT

STATES, CANDIDATES = 80, 32
TUNED = ROOT / "configs" / "cpu" / "peg_in_hole.yaml"
START = ROOT / "artifacts" / "peg_in_hole_start"
SETTINGS: AgentSettings = msgspec.structs.replace(
    SMALL, candidates=CANDIDATES, eta=0.01, zeta=1.2, critic_hidden_sizes=(32, 32, 32), weightless=0.0
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


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
    return replay.windows(np.arange(STATES) % len(replay))


def networks(specification: Specification) -> tuple[FlowPolicy, ChunkCritic]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = FlowPolicy(Architecture.of(specification, (32, 32, 32)))
        return policy, ChunkCritic(critic_architecture(specification, SETTINGS))


def agent(specification: Specification, settings: AgentSettings = SETTINGS, threads: int = 1) -> Agent:
    policy, critic = networks(specification)
    return Agent(FastFlow(policy), critic, settings, specification, threads)


def weights(one: Agent | PlainUpdate, specification: Specification) -> dict[str, torch.Tensor]:
    """Weights of actor and critic in the names and shapes of the plain update, whose first layers are in one piece."""
    plain = one
    if isinstance(one, Agent):
        assert isinstance(one.policy, FastFlow)
        plain = PlainUpdate(one.policy.policy, one.critic, one.settings, specification)
    assert isinstance(plain, PlainUpdate)
    return {**plain.actor.state_dict(prefix="actor."), **plain.critic.state_dict(prefix="critic.")}


def slope(layer: torch.nn.Module) -> torch.Tensor:
    """Gradient of the layer's weight."""
    gradient = layer.get_parameter("weight").grad
    assert gradient is not None
    return gradient


def distance(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """Largest difference of a weight."""
    assert one.keys() == two.keys()
    return max(float((value - two[key]).abs().max()) for key, value in one.items())


@pytest.mark.parametrize("threads", [1, 2])
def test_many_updates_end_where_the_plain_ones_do(specification: Specification, replay: Replay, threads: int) -> None:
    """After 50 updates on changing batches no weight is further than 1e-4 from the oracle's, though some moved 100 times as far."""
    assert STATES * CANDIDATES > 2 * BLOCK_ROWS
    ours = agent(specification, threads=threads)
    oracle = PlainUpdate(*networks(specification), SETTINGS, specification)
    start = weights(ours, specification)
    draws, same, rows = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1), np.random.default_rng(0)
    for _ in range(50):
        windows = replay.windows(rows.integers(0, len(replay), STATES))
        figures = ours.update(windows, "learning", draws)
        assert oracle.update(windows, same) == pytest.approx(figures["loss"], rel=1e-4)
    assert torch.equal(draws.get_state(), same.get_state())
    theirs = weights(oracle, specification)
    assert distance(weights(ours, specification), theirs) < 1e-4
    assert distance(start, theirs) > 1e-2


def test_weightless_candidates_leave_the_trajectory_alone(specification: Specification, batch: Batch) -> None:
    """With a critic that knows what it wants, 50 updates without the weightless ones end within 1e-3 of the plain ones."""
    settings = msgspec.structs.replace(SETTINGS, eta=2e-3, weightless=1e-6)
    ours, oracle = agent(specification, settings), PlainUpdate(*networks(specification), settings, specification)
    draws, same = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    left_out = []
    for _ in range(50):
        left_out.append(ours.update(batch, "learning", draws)["weightless_fraction"])
        oracle.update(batch, same)
    assert max(left_out) > 0.2
    theirs = weights(oracle, specification)
    assert distance(weights(ours, specification), theirs) < 1e-3


def test_gradients_are_those_of_the_plain_loss(specification: Specification, batch: Batch) -> None:
    """One loss, one autograd pass through everything: every gradient agrees to 1e-5 of the largest, blocks and threads or not."""
    oracle = PlainUpdate(*networks(specification), SETTINGS, specification)
    torch.autograd.backward(oracle.loss(batch, torch.Generator().manual_seed(2)))
    expected = [slope(layer) for layer in oracle.actor if isinstance(layer, torch.nn.Linear)]
    for threads in (1, 2):
        ours = agent(specification, threads=threads)
        loss, _ = ours.actor_loss(batch, "learning", _after_critic(ours, batch))
        torch.autograd.backward(loss)
        assert isinstance(ours.policy, FastFlow)
        policy = ours.policy.policy
        first = torch.cat((slope(policy.observation_layer), slope(policy.chunk_layer)), dim=1)
        found = [first, *map(slope, policy.hidden_layers), slope(policy.velocity_layer)]
        for mine, plain in zip(found, expected, strict=True):
            assert float((mine - plain).abs().max()) < 1e-5 * float(plain.abs().max())


def test_gradients_do_not_depend_on_who_computes_what(specification: Specification, batch: Batch) -> None:
    """Two threads add up the same blocks in the same order, whoever was first: bit for bit, update after update.

    One thread, which takes the critic's states in one block where they are few, comes to the same but for rounding.
    """
    one, two, again = (agent(specification, threads=threads) for threads in (1, 2, 2))
    for seed in range(3):
        alone, *together = (
            each.update(batch, "learning", torch.Generator().manual_seed(seed)) for each in (one, two, again)
        )
        assert together[0] == together[1]
        assert alone == pytest.approx(together[0], rel=1e-4, abs=1e-6)
    assert distance(weights(two, specification), weights(again, specification)) == 0.0
    assert distance(weights(one, specification), weights(two, specification)) < 1e-6


@pytest.fixture(scope="module")
def peg_replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    episodes = read_demonstrations(START / "demonstrations").episodes
    replay = Replay.create(tmp_path_factory.mktemp("peg"), episodes[0].specification, 8_000_000)
    replay.begin_with(episodes)
    return replay


def test_the_tuned_recipe_is_the_plain_update_too(peg_replay: Replay) -> None:
    """Clock, endings, remaining, few posterior states, weightless ones left out, two threads: 12 updates on what a clumsy
    operator did, from a cloned actor and a critic that was warmed up, leave no weight further than 5e-5 from the oracle's.

    Some moved a hundred times as far. Every loss agrees to 1e-4 of itself.
    """
    recipe = read_training_settings(TUNED)
    settings, start = recipe.agent, training_state.read_state(START / "run" / "states")
    assert (settings.critic_reads, settings.endings, settings.anchor) == ("remaining", "completed", "successes")
    assert settings.critic_clock_steps > 0
    assert 0 < settings.posterior_states < recipe.batch
    assert settings.weightless > 0.0
    identity = msgspec.structs.replace(start.identity, settings=recipe)
    policy, ours = assembly.assemble(identity, threads=2)
    policy.load_state_dict(training_state.under("actor.", start.tensors))
    for critic in (ours.critic, ours.target):
        critic.load_state_dict(training_state.under("critic.", start.tensors))
    oracle = PlainUpdate(flow_policy(policy), ours.critic, settings, identity.specification)
    begun, rows = weights(ours, identity.specification), torch.Generator().manual_seed(0)
    draws, same = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    cut_off = left_out = 0.0
    for _ in range(12):
        batch = peg_replay.sample(recipe.batch, rows, acted=True)
        cut_off += float((1.0 - batch.complete).sum())
        figures = ours.update(batch, "learning", draws)
        left_out = max(left_out, figures["weightless_fraction"])
        assert oracle.update(batch, same) == pytest.approx(figures["loss"], rel=1e-4)
    assert torch.equal(draws.get_state(), same.get_state())
    assert cut_off > 10
    assert left_out > 0.1
    theirs = weights(oracle, identity.specification)
    assert distance(weights(ours, identity.specification), theirs) < 5e-5
    assert distance(begun, theirs) > 5e-3


@pytest.mark.parametrize(
    ("count", "size", "threads", "number"), [(80, 32, 1, 3), (80, 200, 2, 2), (3, 1, 8, 3), (1, 9, 2, 1)]
)
def test_blocks_cover_every_state_once(count: int, size: int, threads: int, number: int) -> None:
    """Slices follow each other without a gap, none longer than it may be, enough for all threads."""
    parts = blocks(count, size, threads)
    assert len(parts) == number
    assert [row for part in parts for row in range(count)[part]] == list(range(count))
    assert max(part.stop - part.start for part in parts) <= size


def _after_critic(ours: Agent, batch: Batch) -> torch.Generator:
    """The generator as the critic's loss leaves it, which is drawn first."""
    draws = torch.Generator().manual_seed(2)
    copy.copy(ours).critic_loss(batch, draws)
    return draws
