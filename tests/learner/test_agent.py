"""The agent computes the published objective: checks of E-step, M-step, critic target, rivals and refusals."""

from __future__ import annotations

import copy
import math
from dataclasses import fields, replace

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from learning_toys import SMALL, GaussianPolicy, LinearCritic, critic_architecture, e_step, m_step, small_agent
from poco.episodes import Episode
from poco.errors import SettingsError
from poco.learner.agent import Agent, Figures
from poco.learner.agent_settings import AgentSettings, Method
from poco.learner.chunk_policy import ChunkPolicy
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.posterior import Posterior, clipped_loss, posterior_weights
from poco.learner.replay import Replay
from poco.learner.windows import Batch
from poco.specification import Specification


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def batch(
    specification: Specification, demonstrations: tuple[Episode, ...], tmp_path_factory: pytest.TempPathFactory
) -> Batch:
    replay = Replay.create(tmp_path_factory.mktemp("replay"), specification, 1_000_000)
    for episode in demonstrations:
        replay.add(episode.steps, episode.end)
    return replay.windows(np.arange(24))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def changed(settings: AgentSettings, **values: object) -> AgentSettings:
    return msgspec.structs.replace(settings, **values)


def gradients(agent: Agent, loss: Tensor) -> list[Tensor]:
    parameters = list(agent.policy.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(one) if grad is None else grad for one, grad in zip(parameters, found, strict=True)]


def actor_loss(specification: Specification, batch: Batch, **values: object) -> Tensor:
    return small_agent(specification, changed(SMALL, **values)).actor_loss(batch, "learning", generator(1))[0]


def test_no_clip_infinite_clip_and_no_posterior_term(specification: Specification, batch: Batch) -> None:
    """zeta <= 0 and zeta = inf both give the weighted cloning objective, beta = 0 gives cloning."""
    unclipped = actor_loss(specification, batch, zeta=math.inf)
    assert torch.equal(actor_loss(specification, batch, zeta=0.0), unclipped)
    assert torch.equal(actor_loss(specification, batch, zeta=-1.0), unclipped)
    assert torch.equal(actor_loss(specification, batch, method="poco-noclip"), unclipped)
    assert float(actor_loss(specification, batch, zeta=0.3).detach()) < float(unclipped.detach())
    agent = small_agent(specification, SMALL)
    cloning, figures = agent.actor_loss(batch, "cloning", generator(1))
    assert torch.equal(actor_loss(specification, batch, beta=0.0), cloning)
    assert torch.equal(actor_loss(specification, batch, method="bc"), cloning)
    assert "posterior_loss" not in figures
    draws = generator(1)
    context = agent.policy.encode(batch.observation)
    noise, time = torch.randn(24, 5, 4, generator=draws), torch.rand(24, generator=draws)
    expected = agent.policy.loss(context, batch.chunk, noise, time, batch.valid).mean()
    torch.testing.assert_close(cloning, expected)


def test_unclipped_term_is_the_weighted_cloning_loss_of_the_candidates(
    specification: Specification, batch: Batch
) -> None:
    """Candidates, weights, losses and their sum, written out again by hand, give the agent's posterior term."""
    agent = small_agent(specification, changed(SMALL, zeta=0.0))
    context = agent.policy.encode(batch.observation)
    posterior = e_step(agent, context, batch, generator(2))
    term, _ = m_step(agent, context, posterior, generator(3))
    draws = generator(2)
    noise = torch.randn(24 * 4, 5, 4, generator=draws)
    chunks = agent.policy.sample(context.detach().repeat_interleave(4, 0), noise).view(24, 4, 5, 4)
    torch.testing.assert_close(posterior.chunks, chunks)
    read = torch.cat((batch.actions[:, None, :1].expand(-1, 4, -1, -1), chunks[:, :, :3]), dim=2)
    values = agent.target(batch.observation, read).mean(0)
    torch.testing.assert_close(posterior.weights, (values / 0.1).exp() / (values / 0.1).exp().sum(-1, keepdim=True))
    draws = generator(3)
    noise, time = torch.randn(96, 5, 4, generator=draws), torch.rand(96, generator=draws)
    total = torch.zeros(())
    for state in range(24):
        for j in range(4):
            row = slice(4 * state + j, 4 * state + j + 1)
            loss = agent.policy.loss(
                context[state : state + 1], chunks[state, j : j + 1], noise[row], time[row], torch.ones(1, 5)
            )
            total = total + posterior.weights[state, j] * loss[0] / 24
    torch.testing.assert_close(term, total)


def test_only_the_posterior_states_get_candidates(specification: Specification, batch: Batch) -> None:
    """With posterior_states k the posterior term is that of the first k states alone; the anchor keeps the whole batch."""
    few, whole = (small_agent(specification, changed(SMALL, posterior_states=count)) for count in (7, 0))
    found, _ = few.improvement(few.policy.encode(batch.observation), batch, generator(2))
    first = Batch(**{one.name: getattr(batch, one.name)[:7] for one in fields(batch)})
    expected, _ = whole.improvement(whole.policy.encode(first.observation), first, generator(2))
    torch.testing.assert_close(found, expected)
    anchors = [agent.actor_loss(batch, "cloning", generator(1))[0] for agent in (few, whole)]
    assert torch.equal(*anchors)


def test_a_clipped_candidate_has_no_gradient_and_the_anchor_keeps_its_own(
    specification: Specification, batch: Batch
) -> None:
    """Beyond zeta a loss counts zeta with zero gradient, below it counts itself; zeta leaves the cloning gradient alone."""
    losses = torch.tensor([[0.1, 0.5], [0.9, 0.2]], requires_grad=True)
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    term = clipped_loss(losses, weights, 0.3)
    torch.testing.assert_close(term, torch.tensor([0.25 * 0.1 + 0.75 * 0.3, 0.5 * 0.3 + 0.5 * 0.2]))
    (grad,) = torch.autograd.grad(term.sum(), losses)
    assert torch.equal(grad, torch.tensor([[0.25, 0.0], [0.0, 0.5]]))
    agent = small_agent(specification, changed(SMALL, zeta=1e-9))
    cloning, _ = agent.actor_loss(batch, "cloning", generator(1))
    whole, figures = agent.actor_loss(batch, "learning", generator(1))
    assert figures["clipped_fraction"] == figures["clipped_weight"] == pytest.approx(1.0)
    for expected, found in zip(gradients(agent, cloning), gradients(agent, whole), strict=True):
        assert torch.equal(expected, found)


def test_no_gradient_leaves_the_actor_loss_but_to_the_predicted_velocity(
    specification: Specification, batch: Batch
) -> None:
    """Candidates and weights are constants and the critics get no gradient at all."""
    agent = small_agent(specification)
    context = agent.policy.encode(batch.observation)
    posterior = e_step(agent, context, batch, generator())
    assert not any(one.requires_grad for one in (posterior.chunks, posterior.values, posterior.weights))
    torch.autograd.backward(agent.actor_loss(batch, "learning", generator(1))[0])
    assert all(parameter.grad is not None for parameter in agent.policy.parameters())
    critics = [*agent.critic.parameters(), *agent.target.parameters()]
    assert all(parameter.grad is None for parameter in critics)
    for parameter in agent.policy.parameters():
        parameter.grad = None
    torch.autograd.backward(agent.critic_loss(batch, generator(1))[0])
    assert all(parameter.grad is None for parameter in (*agent.policy.parameters(), *agent.target.parameters()))


def test_weights_ignore_constants_and_follow_the_temperature() -> None:
    """w(Q + c) = w(Q); eta to 0 picks the best candidate, eta to infinity weighs all alike."""
    values = torch.randn(6, 8, generator=generator(), dtype=torch.float64)
    weights = posterior_weights(values, 0.3)
    torch.testing.assert_close(posterior_weights(values + 1000.0, 0.3), weights)
    torch.testing.assert_close(weights.sum(-1), torch.ones(6, dtype=torch.float64))
    one_hot = torch.nn.functional.one_hot(values.argmax(-1), 8).double()
    torch.testing.assert_close(posterior_weights(values, 1e-9), one_hot)
    torch.testing.assert_close(posterior_weights(values, 1e9), torch.full((6, 8), 0.125, dtype=torch.float64))
    large = posterior_weights(torch.tensor([[1e30, -1e30]]), 1e-3)
    assert torch.equal(large, torch.tensor([[1.0, 0.0]]))


def test_critic_target_is_the_discounted_return_and_one_policy_sample(
    specification: Specification, batch: Batch
) -> None:
    """Target = sum gamma^i (r_i - cost) + gamma^E * mask * Qbar(s', one sample); a true end masks it, lived steps cost."""
    settings = changed(SMALL, discount=0.9, step_cost=0.01, aggregate="min")
    agent = small_agent(specification, settings)
    with torch.no_grad():
        for parameter in agent.critic.parameters():
            parameter.add_(0.05)
    assert 0 < float(batch.terminated.sum()) < 24
    with torch.no_grad():
        sampled = agent.policy.sample(
            agent.policy.encode(batch.following), torch.randn(24, 5, 4, generator=generator(4))
        )
    pending = torch.where(batch.known[:, 3:, None] > 0, batch.actions[:, 3:], sampled[:, :1])
    future = agent.target(batch.following, torch.cat((pending, sampled[:, :3]), 1)[:, None]).amin(0)[:, 0]
    rewards = sum(0.9**i * (batch.rewards[:, i] - 0.01) * batch.known[:, i] for i in range(3))
    target = rewards + 0.9**3 * (1.0 - batch.terminated) * future
    read = torch.cat((batch.actions[:, :3], pending), dim=1)
    expected = ((agent.critic(batch.observation, read[:, None])[..., 0] - target) ** 2 * batch.complete).mean()
    loss, figures = agent.critic_loss(batch, generator(4))
    torch.testing.assert_close(loss, expected)
    assert float(figures["target_mean"]) == pytest.approx(float(target.mean()), abs=1e-6)
    truncated = replace(batch, terminated=torch.zeros(24))
    more = agent.critic_loss(truncated, generator(4))[1]["target_mean"] - figures["target_mean"]
    assert float(more) == pytest.approx(float((0.729 * batch.terminated * future).mean()), abs=1e-6)
    strict = small_agent(specification, changed(settings, time_limit="failure"))
    torch.testing.assert_close(
        strict.critic_loss(truncated, generator(4))[1]["target_mean"],
        small_agent(specification, settings).critic_loss(batch, generator(4))[1]["target_mean"],
    )


def test_only_the_critic_sees_the_clock(specification: Specification, batch: Batch) -> None:
    """With a clock of ten steps the critic reads -1 at the first step and 1 from the tenth on, E steps later in its target."""
    agent = small_agent(specification, changed(SMALL, critic_clock_steps=10))
    read: list[Tensor] = []
    for network in (agent.critic, agent.target):
        network.register_forward_pre_hook(lambda module, given: read.append(given[0]))
    timed = replace(batch, step=torch.arange(24.0))
    agent.critic_loss(timed, generator())
    later, now = (torch.cat(read[one::2]) for one in (0, 1))
    assert (now.shape, later.shape) == ((24, 7), (24, 7))
    torch.testing.assert_close(now[:, -1], (torch.arange(24) / 5 - 1).clamp(max=1.0))
    torch.testing.assert_close(later[:, -1], ((torch.arange(24) + 3) / 5 - 1).clamp(max=1.0))
    assert torch.equal(now[:, :-1], batch.observation)
    assert torch.equal(later[:, :-1], batch.following)
    earlier = agent.actor_loss(replace(batch, step=torch.zeros(24)), "learning", generator())[1]
    latest = agent.actor_loss(replace(batch, step=torch.full((24,), 10.0)), "learning", generator())[1]
    assert earlier["bc_loss_mean"] == latest["bc_loss_mean"]
    assert earlier["value_mean"] != latest["value_mean"]


def test_windows_that_did_not_take_place_do_not_train_the_critic(specification: Specification, batch: Batch) -> None:
    """A window cut off by the end of its episode has no part in the loss, whatever it holds."""
    agent = small_agent(specification)
    incomplete = batch.complete == 0
    assert 0 < int(incomplete.sum()) < 24
    loss, _ = agent.critic_loss(batch, generator())
    other = replace(batch, rewards=torch.where(incomplete[:, None], 7.0, batch.rewards))
    assert torch.equal(agent.critic_loss(other, generator())[0], loss)


def test_completed_windows_train_the_critic_up_to_the_end(specification: Specification, batch: Batch) -> None:
    """With "completed" a cut-off window counts: D actions as they were meant, then the policy's own, and the reward as it was."""
    agent = small_agent(specification, changed(SMALL, endings="completed"))
    read: list[Tensor] = []
    agent.critic.register_forward_pre_hook(lambda module, given: read.append(given[1]))
    loss, _ = agent.critic_loss(batch, generator())
    lived = batch.known[:, :3] > 0
    assert 0 < int((~lived).sum()) < 36
    actions = torch.cat(read)[:, 0]
    assert torch.equal(actions[:, :3][lived], batch.actions[:, :3][lived])
    assert not torch.isclose(actions[:, 1:3][~lived[:, 1:]], batch.actions[:, 1:3][~lived[:, 1:]]).all(-1).any()
    cut = batch.complete == 0
    other = replace(batch, rewards=torch.where(cut[:, None], 7.0, batch.rewards))
    assert not torch.equal(agent.critic_loss(other, generator())[0], loss)


def test_gaussian_toy_has_the_loss_of_theory() -> None:
    """A flow that fits N(0, sigma^2) in every element has a loss of pi sigma / 2, the mean, not the sum, over T * A."""
    torch.manual_seed(0)
    sigma, draws = 0.2, generator(0)
    fitted = FlowPolicy(Architecture(observation_size=1, chunk_steps=2, action_size=2, hidden_sizes=(32, 32)))
    optimizer = torch.optim.Adam(fitted.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)

    def loss(policy: ChunkPolicy, count: int) -> Tensor:
        chunk = sigma * torch.randn(count, 2, 2, generator=draws)
        noise, time = torch.randn(count, 2, 2, generator=draws), torch.rand(count, generator=draws)
        return policy.loss(policy.encode(torch.zeros(count, 1)), chunk, noise, time, torch.ones(count, 2)).mean()

    for _ in range(600):
        optimizer.zero_grad()
        torch.autograd.backward(loss(fitted, 256))
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        assert float(loss(fitted, 50_000)) == pytest.approx(math.pi * sigma / 2, rel=0.1)
        assert float(loss(GaussianPolicy(0.0, sigma), 50_000)) == pytest.approx(math.pi * sigma / 2, rel=0.03)


def toy(specification: Specification, slope: float, **values: object) -> Agent:
    settings = changed(SMALL, **values)
    critic = LinearCritic(critic_architecture(specification, settings), slope)
    return Agent(GaussianPolicy(0.0, 0.15), critic, settings, specification)


def test_known_posterior_is_reproduced(specification: Specification, batch: Batch) -> None:
    """Prior N(0, s^2) and Q = g sum(a) have the posterior N(s^2 g / eta, s^2): weighted candidates and the fitted actor agree.

    The executed actions move, the rest of the chunk, which the critic does not read, stays; a uniform E-step moves nothing.
    """
    slope, eta = 0.25, 0.1
    batch = Batch(*(getattr(batch, name)[:2] for name in Batch.__slots__))
    expected = 0.15**2 * slope / eta
    agent = toy(specification, slope, candidates=8192, eta=eta, zeta=0.0)
    posterior = e_step(agent, batch.observation, batch, generator(1))
    mean = (posterior.weights[..., None, None] * posterior.chunks).sum(1)
    std = ((posterior.weights[..., None, None] * (posterior.chunks - mean[:, None]) ** 2).sum(1)).sqrt()
    assert float(mean[:, :3].mean()) == pytest.approx(expected, rel=0.05)
    assert abs(float(mean[:, 3:].mean())) < 0.1 * expected
    assert float(std.mean()) == pytest.approx(0.15, rel=0.05)
    executed = Posterior(posterior.chunks[:, :, :3], posterior.values, posterior.weights)
    target = GaussianPolicy(0.0, 0.3)
    fitted = Agent(target, agent.critic, agent.settings, msgspec.structs.replace(specification, chunk_steps=3))
    optimizer, draws = torch.optim.Adam(fitted.policy.parameters(), 0.02), generator(2)
    for _ in range(150):
        optimizer.zero_grad()
        torch.autograd.backward(m_step(fitted, batch.observation, executed, draws)[0])
        optimizer.step()
    assert target.mean.item() == pytest.approx(expected, rel=0.1)
    assert target.log_std.exp().item() == pytest.approx(0.15, rel=0.1)
    uninformed = toy(specification, slope, candidates=8192, method="poco-noestep")
    uniform = e_step(uninformed, batch.observation, batch, generator(1))
    assert float(uniform.weights.std()) == 0.0
    assert abs(float(uniform.chunks.mean())) < 0.1 * expected


def test_clipped_gradient_equals_finite_differences(specification: Specification, batch: Batch) -> None:
    """In float64 the gradient of the clipped posterior term equals central differences in random directions."""
    double = Batch(*(getattr(batch, name).double() for name in Batch.__slots__))
    agent = small_agent(specification, changed(SMALL, zeta=1.2))
    for parameter in (*agent.policy.parameters(), *agent.critic.parameters(), *agent.target.parameters()):
        parameter.data = parameter.data.double()
    posterior = e_step(agent, agent.policy.encode(double.observation), double, generator(8))

    def loss() -> tuple[Tensor, Figures]:
        return m_step(agent, agent.policy.encode(double.observation), posterior, generator(9))

    assert 0.1 < loss()[1]["clipped_fraction"] < 0.9
    parameters = list(agent.policy.parameters())
    found = gradients(agent, loss()[0])
    for seed in range(5):
        directions = [torch.randn(one.shape, generator=generator(seed), dtype=torch.float64) for one in parameters]
        ends = []
        for shift in (1e-6, -2e-6):
            torch._foreach_add_([one.data for one in parameters], directions, alpha=shift)
            ends.append(float(loss()[0]))
        torch._foreach_add_([one.data for one in parameters], directions, alpha=1e-6)
        expected = sum(float((one * two).sum()) for one, two in zip(found, directions, strict=True))
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(expected, rel=1e-5)


def test_weightless_candidates_cannot_matter(specification: Specification, batch: Batch) -> None:
    """Leaving them out moves the gradient by no more than their weights times the largest gradient of a candidate's loss.

    The bound is checked for a threshold high enough to leave something out, and at that of the settings.
    """
    agent = small_agent(specification, changed(SMALL, zeta=0.0, candidates=16, eta=0.01))
    context = agent.policy.encode(batch.observation)
    posterior = e_step(agent, context, batch, generator(5))
    draws = generator(6)
    noise, time = torch.randn(24 * 16, 5, 4, generator=draws), torch.rand(24 * 16, generator=draws)
    steepest = 0.0
    for row in range(24 * 16):
        chunk = posterior.chunks.flatten(0, 1)[row : row + 1]
        one = agent.policy.loss(
            context[row // 16][None], chunk, noise[row][None], time[row : row + 1], torch.ones(1, 5)
        )
        found = torch.autograd.grad(one[0], list(agent.policy.parameters()), retain_graph=True)
        steepest = max(steepest, float(torch.nn.utils.get_total_norm(found)))
    for threshold in (1e-3, 1e-6):
        left_out = posterior.weights * (posterior.weights < threshold)
        left_out[:, 0] = 0.0
        kept = []
        for weightless in (0.0, threshold):
            agent.settings = changed(agent.settings, weightless=weightless)
            term, figures = m_step(agent, agent.policy.encode(batch.observation), posterior, generator(6))
            kept.append(gradients(agent, term))
        count = int((posterior.weights[:, 1:] < threshold).sum())
        assert figures["weightless_fraction"] == pytest.approx(count / (24 * 16))
        assert count > 24
        assert float(left_out.sum()) > 0.0
        difference = float(torch.nn.utils.get_total_norm([one - two for one, two in zip(*kept, strict=True)]))
        bound = float(left_out.sum()) / 24 * steepest
        assert bound <= 16 * threshold * steepest
        assert difference <= bound + 1e-7


def test_clipped_fraction_stays_honest_without_the_weightless(specification: Specification, batch: Batch) -> None:
    """Over many draws the fraction seen on what took part is that of all candidates, though most were left out."""
    fractions = []
    for weightless in (0.0, 1e-3):
        settings = changed(SMALL, candidates=16, eta=0.0005, zeta=1.2, weightless=weightless)
        agent, draws = small_agent(specification, settings), generator(7)
        context = agent.policy.encode(batch.observation)
        runs = [m_step(agent, context, e_step(agent, context, batch, draws), draws)[1] for _ in range(60)]
        assert (runs[0]["weightless_fraction"] > 0.5) == (weightless > 0.0)
        fractions.append(float(np.mean([one["clipped_fraction"] for one in runs])))
    assert 0.1 < fractions[0] < 0.9
    assert fractions[1] == pytest.approx(fractions[0], abs=0.05)


def test_diagnostics_are_complete_and_in_range(specification: Specification, batch: Batch) -> None:
    """Every figure the published code logs, and those that tell health, come with an update and lie where they must."""
    figures = small_agent(specification).update(batch, "learning", generator())
    spreads = [
        f"{name}_{kind}" for name in ("candidate_loss", "weight", "value") for kind in ("mean", "std", "max", "min")
    ]
    cloning = ["bc_loss_mean", "bc_loss_max", "bc_loss_min"]
    assert {*spreads, *cloning, "critic_loss", "posterior_loss", "gradient_norm", "target_mean"} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())
    assert 0.0 <= figures["clipped_fraction"] <= 1.0
    assert 1.0 <= figures["effective_sample_size"] <= 4.0
    assert figures["weight_mean"] == pytest.approx(0.25)
    assert figures["best_of_8_gain"] >= 0.0


def test_diagnostics_of_a_single_state_are_numbers(specification: Specification, batch: Batch) -> None:
    """So are the spreads of a batch of one whose other candidates were left out: not a number could not be read again."""
    settings = changed(SMALL, eta=1e-6, weightless=1e-3)
    figures = small_agent(specification, settings).update(batch.rows(slice(1)), "learning", generator())
    assert figures["weightless_fraction"] > 0.0
    assert figures["candidate_loss_std"] == 0.0
    assert all(math.isfinite(value) for value in figures.values())


class CountingPolicy(GaussianPolicy):
    """Counts the observations it encodes and the chunks it is asked for."""

    def __init__(self) -> None:
        super().__init__(0.0, 0.15)
        self.encoded = self.sampled = 0

    def encode(self, observation: Tensor) -> Tensor:
        """Return what was observed."""
        self.encoded += len(observation)
        return super().encode(observation)

    def sample(self, context: Tensor, noise: Tensor) -> Tensor:
        """Return exact samples."""
        self.sampled += len(context)
        return super().sample(context, noise)


@pytest.mark.parametrize("method", ["poco", "qc", "bc"])
def test_an_observation_is_encoded_once(specification: Specification, batch: Batch, method: Method) -> None:
    """An update of any method encodes each state and each following one once, however many candidates are drawn there."""
    policy, settings = CountingPolicy(), changed(SMALL, method=method)
    agent = Agent(policy, LinearCritic(critic_architecture(specification, settings), 0.1), settings, specification)
    agent.loss(batch, "learning", generator())
    drawn = {"poco": 1 + SMALL.candidates, "qc": SMALL.candidates, "bc": 1}
    assert (policy.encoded, policy.sampled) == (2 * 24, drawn[method] * 24)


def test_phases_change_what_they_say(specification: Specification, batch: Batch) -> None:
    """Frozen moves the critics only; cloning and learning move both; the target follows at its rate."""
    for phase, moves in (("frozen", False), ("cloning", True), ("learning", True)):
        agent = small_agent(specification)
        actor, critic, target = (
            copy.deepcopy(list(module.parameters())) for module in (agent.policy, agent.critic, agent.target)
        )
        agent.update(batch, phase, generator())  # type: ignore[arg-type]
        assert (
            any(not torch.equal(one, two) for one, two in zip(actor, agent.policy.parameters(), strict=True)) == moves
        )
        assert not torch.equal(critic[0], next(agent.critic.parameters()))
        for old, new, online in zip(target, agent.target.parameters(), agent.critic.parameters(), strict=True):
            torch.testing.assert_close(new, torch.lerp(old, online, 0.005).detach())


def test_anchor_on_successes_leaves_failures_out(specification: Specification, batch: Batch) -> None:
    """With anchor "successes" the cloning loss is the mean over the windows of successful episodes."""
    success = torch.tensor([1.0, 0.0] * 12)
    agent = small_agent(specification, changed(SMALL, anchor="successes"))
    mixed, _ = agent.actor_loss(replace(batch, success=success), "cloning", generator())
    context = agent.policy.encode(batch.observation)
    draws = generator()
    noise, time = torch.randn(24, 5, 4, generator=draws), torch.rand(24, generator=draws)
    losses = agent.policy.loss(context, batch.chunk, noise, time, batch.valid)
    torch.testing.assert_close(mixed, losses[::2].mean())
    none, _ = agent.actor_loss(replace(batch, success=torch.zeros(24)), "cloning", generator())
    assert float(none) == 0.0


def test_best_is_the_candidate_with_the_highest_value(specification: Specification, batch: Batch) -> None:
    """Acting with the critic picks, for each state, the sample whose executed part has the largest sum under Q = sum(a)."""
    agent = toy(specification, 1.0)
    noise = torch.randn(24, 8, 5, 4, generator=generator())
    chosen = agent.best(batch.observation, batch.step, batch.actions[:, :1], noise)
    sampled = 0.15 * noise
    expected = sampled[torch.arange(24), sampled[:, :, :3].flatten(2).sum(-1).argmax(-1)]
    torch.testing.assert_close(chosen, expected)


def test_q_chunking_bootstraps_with_the_best_of_n(specification: Specification, batch: Batch) -> None:
    """Under Q = sum(a) the target of "qc" lies above that of one sample by what the best of N executed parts is worth."""
    many = replace(batch, terminated=torch.zeros(24), rewards=torch.zeros(24, 3))
    targets = [
        toy(specification, 1.0, method=method, candidates=64).critic_loss(many, generator())[1]["target_mean"]
        for method in ("poco", "qc")
    ]
    best_of_64 = 2.4 * 0.15 * math.sqrt(3 * 4) * 0.99**3
    assert targets[1] - targets[0] == pytest.approx(best_of_64, rel=0.25)


@pytest.mark.parametrize("method", ["poco", "poco-noclip", "poco-noestep", "qc", "bc"])
def test_one_flag_makes_every_rival(specification: Specification, batch: Batch, method: Method) -> None:
    """All methods update the same networks from the same replay, with mse and with bce."""
    for critic_loss in ("mse", "bce"):
        agent = small_agent(specification, changed(SMALL, method=method, critic_loss=critic_loss))
        figures = agent.update(batch, "learning", generator())
        assert agent.refused == 0
        assert ("posterior_loss" in figures) == method.startswith("poco")


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("field", ["observation", "chunk", "actions", "rewards", "following"])
def test_a_poisoned_batch_changes_nothing(
    specification: Specification, batch: Batch, field: str, poison: float
) -> None:
    """One bad value in any field: the update is refused and counted, weights, target and moments stay as they are."""
    agent = small_agent(specification)
    agent.update(batch, "learning", generator())
    networks = [list(one.parameters()) for one in (agent.policy, agent.critic, agent.target)]
    before = copy.deepcopy(networks)
    moments = copy.deepcopy(agent.optimizer.state_dict()["state"])
    values = getattr(batch, field).clone()
    values[3].view(-1)[0] = poison
    complete = replace(batch, complete=torch.ones(24), terminated=torch.zeros(24), valid=torch.ones(24, 5))
    agent.update(replace(complete, **{field: values}), "learning", generator())
    assert agent.refused == 1
    for old, network in zip(before, networks, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(old, network, strict=True))
    for number, entry in agent.optimizer.state_dict()["state"].items():
        assert all(torch.equal(moments[number][key], value) for key, value in entry.items())


def test_contradictions_are_refused() -> None:
    """Cross-entropy cannot learn negative values, and a clip that is not a number is none."""
    with pytest.raises(SettingsError, match="set step_cost to 0"):
        changed(SMALL, critic_loss="bce", step_cost=0.01).__post_init__()
    with pytest.raises(SettingsError, match="not a number"):
        AgentSettings(zeta=math.nan)
