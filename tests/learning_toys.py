"""A policy and a critic whose posterior is known in closed form, and small agents for the tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poco.learner.agent import Agent, Figures
from poco.learner.agent_settings import AgentSettings
from poco.learner.critic import ChunkCritic, CriticArchitecture
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.posterior import Posterior
from poco.learner.ranks import ALONE, Ranks
from poco.learner.windows import Batch
from poco.specification import Specification

SMALL = AgentSettings(
    candidates=4, eta=0.1, zeta=0.3, critic_hidden_sizes=(16, 16), actor_learning_rate=1e-3, critic_learning_rate=1e-3
)


class GaussianPolicy(nn.Module):
    """Chunks N(mean, std^2) in every element whatever is observed; the velocity of its flow is exact.

    For x_t = (1 - t) noise + t chunk: E[chunk - noise | x_t] = mean + (t std^2 - (1 - t)) / s^2 (x_t - t mean), with
    s^2 = (1 - t)^2 + t^2 std^2.
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.log_std = nn.Parameter(torch.tensor(std).log())

    noise_shape = None
    rows_max = None

    def for_critic(self, observation: Tensor) -> Tensor:
        """Return what was observed."""
        return observation

    def encode(self, observation: Tensor) -> Tensor:
        """Return what was observed."""
        return observation

    def loss(self, context: Tensor, chunk: Tensor, noise: Tensor, time: Tensor, valid: Tensor) -> Tensor:
        """Return the flow-matching loss [B]."""
        t, variance = time[:, None, None], (2.0 * self.log_std).exp()
        point = torch.lerp(noise, chunk, t)
        slope = (t * variance - (1.0 - t)) / ((1.0 - t) ** 2 + t**2 * variance)
        error = self.mean + slope * (point - t * self.mean) - (chunk - noise)
        return (error.square() * valid.unsqueeze(-1)).flatten(1).mean(-1)

    def sample(self, context: Tensor, noise: Tensor) -> Tensor:
        """Return exact samples, what infinitely many Euler steps would give."""
        return self.mean + self.log_std.exp() * noise


class LinearCritic(ChunkCritic):
    """Q(s, a) = slope times the sum of all actions read."""

    def __init__(self, architecture: CriticArchitecture, slope: float) -> None:
        super().__init__(architecture)
        self.slope = slope

    def forward(self, observation: Tensor, actions: Tensor) -> Tensor:
        """Return [heads, B, N], the same for every head."""
        value = self.slope * actions.flatten(2).sum(-1)
        return value.expand(self.architecture.heads, *value.shape)


def critic_architecture(specification: Specification, settings: AgentSettings) -> CriticArchitecture:
    return CriticArchitecture.of(
        specification,
        settings.critic_hidden_sizes,
        settings.critic_heads,
        settings.critic_loss,
        clock=settings.critic_clock_steps > 0,
    )


def small_agent(
    specification: Specification, settings: AgentSettings = SMALL, seed: int = 0, ranks: Ranks = ALONE
) -> Agent:
    """An agent with networks of two layers of 16, the same ones for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = FlowPolicy(Architecture.of(specification, (16, 16)))
        critic = ChunkCritic(critic_architecture(specification, settings))
    return Agent(policy, critic, settings, specification, ranks=ranks)


def e_step(agent: Agent, context: Tensor, batch: Batch, draws: torch.Generator) -> Posterior:
    """The E-step for a batch of the toys' specification, which has one delay step."""
    shape = (len(context), agent.settings.candidates, *batch.chunk.shape[1:])
    noise = torch.randn(shape, generator=draws, dtype=context.dtype)
    return agent.e_step(context, batch.observation, batch.actions[:, :1], noise)


def m_step(agent: Agent, context: Tensor, posterior: Posterior, draws: torch.Generator) -> tuple[Tensor, Figures]:
    """The M-step with one draw for each candidate, and its diagnostics."""
    noise = torch.randn(posterior.chunks.shape, generator=draws, dtype=context.dtype)
    time = torch.rand(noise.shape[:2], generator=draws, dtype=context.dtype)
    term, losses = agent.m_step(context, posterior, noise, time)
    return term, agent.diagnostics(posterior, losses)
