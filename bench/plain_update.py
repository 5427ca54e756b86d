"""POCO's update written straight from the paper in plain torch: the yardstick of bench/learner.py and the oracle of its tests.

Multilayer perceptrons over concat(observation, noisy chunk, t) and concat(observation, actions), a loop over the critic's heads,
autograd through everything, Adam as it comes. Every candidate takes part, all in float32. It draws its random numbers in the order
in which the learner does, so the same generator gives both the same ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poco.learner.agent_settings import AgentSettings
from poco.learner.critic import ChunkCritic
from poco.learner.networks import FlowPolicy
from poco.learner.replay import Batch
from poco.specification import Specification

Activation = Callable[[], nn.Module]


class PlainUpdate:
    """One gradient step on actor and critic at a time, starting from the weights of `policy` and `critic`."""

    def __init__(
        self,
        policy: FlowPolicy,
        critic: ChunkCritic,
        settings: AgentSettings,
        specification: Specification,
        activation: Activation = nn.SiLU,
    ) -> None:
        self.settings, self.specification = settings, specification
        self.mean, self.std = policy.mean, policy.std
        self.steps = policy.architecture.euler_steps
        self.actor = _actor(policy, activation)
        self.critic = nn.ModuleList(_head(head, activation) for head in critic.heads)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        rates = (self.actor, settings.actor_learning_rate), (self.critic, settings.critic_learning_rate)
        self.optimizer = torch.optim.Adam([{"params": one.parameters(), "lr": rate} for one, rate in rates])

    def update(self, batch: Batch, generator: torch.Generator) -> float:
        """Take one step of the published method and return its loss."""
        loss = self.loss(batch, generator)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        with torch.no_grad():
            for slow, quick in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(quick, self.settings.target_rate)
        return float(loss.detach())

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return critic loss + L_BC(a_D) + beta * sum_j w_j min(L_BC(a_j), zeta), mean over the batch."""
        settings, count = self.settings, self.settings.candidates
        critic = self.critic_loss(batch, generator)
        cloning = self.cloning_loss(batch.observation, batch.chunk, batch.valid, generator).mean()
        observation = batch.observation.repeat_interleave(count, dim=0)
        with torch.no_grad():
            chunks = self.sample(observation, generator)
            before = batch.actions[:, : self.specification.delay_steps].repeat_interleave(count, dim=0)
            actions = torch.cat((before, chunks[:, : self.specification.execute_steps]), dim=1)
            values = self.values(self.target, observation, actions).mean(0).view(-1, count)
            weights = torch.softmax(values / settings.eta, dim=-1)
        losses = self.cloning_loss(observation, chunks, torch.ones(chunks.shape[:2]), generator).view(-1, count)
        return critic + cloning + settings.beta * (weights * losses.clamp(max=settings.clip)).sum(-1).mean()

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the squared temporal-difference error over E executed steps, mean over heads and batch."""
        settings, execute = self.settings, self.specification.execute_steps
        with torch.no_grad():
            chunks = self.sample(batch.following, generator)
            real = batch.known[:, execute:, None] > 0
            pending = torch.where(real, batch.actions[:, execute:], chunks[:, : self.specification.delay_steps])
            future = self.values(self.target, batch.following, torch.cat((pending, chunks[:, :execute]), dim=1)).mean(0)
            rewards = sum(settings.discount**i * batch.rewards[:, i] for i in range(execute))
            target = rewards + settings.discount**execute * (1.0 - batch.terminated) * future
        actions = torch.cat((batch.actions[:, :execute], pending), dim=1)
        errors = self.values(self.critic, batch.observation, actions) - target
        return (errors.square() * batch.complete).mean()

    def cloning_loss(self, observation: Tensor, chunk: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        """Return the flow-matching loss [B]."""
        noise = torch.randn(chunk.shape, generator=generator)
        time = torch.rand(len(chunk), generator=generator)[:, None]
        start, end = noise.flatten(1), chunk.flatten(1)
        error = self.velocity(observation, start + time * (end - start), time) - (end - start)
        return (error.square().view_as(chunk) * valid[:, :, None]).flatten(1).mean(-1)

    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Return one chunk [B, T, A] for each row of `observation`, by Euler steps."""
        shape = (len(observation), self.specification.chunk_steps, self.specification.action_size)
        point = torch.randn(shape, generator=generator).flatten(1)
        for step in range(self.steps):
            time = torch.full((len(point), 1), step / self.steps)
            point = point + self.velocity(observation, point, time) / self.steps
        return point.clamp(-1.0, 1.0).view(shape)

    def velocity(self, observation: Tensor, point: Tensor, time: Tensor) -> Tensor:
        """Return the velocity of the flow [B, T * A]."""
        velocity: Tensor = self.actor(torch.cat(((observation - self.mean) / self.std, point, time), dim=-1))
        return velocity

    def values(self, heads: nn.ModuleList, observation: Tensor, actions: Tensor) -> Tensor:
        """Return the values [heads, B]."""
        joined = torch.cat(((observation - self.mean) / self.std, actions.flatten(1)), dim=-1)
        return torch.stack([head(joined).squeeze(-1) for head in heads])


def _actor(policy: FlowPolicy, activation: Activation) -> nn.Sequential:
    layers: list[nn.Module] = [_joined(policy.observation_layer, policy.chunk_layer), activation()]
    for layer in policy.hidden_layers:
        layers += [copy.deepcopy(layer), activation()]
    return nn.Sequential(*layers, copy.deepcopy(policy.velocity_layer))


def _head(head: nn.Module, activation: Activation) -> nn.Sequential:
    parts = {name: copy.deepcopy(child) for name, child in head.named_children()}
    norms = iter(parts["norms"].children())
    layers: list[nn.Module] = [_joined(parts["observation_layer"], parts["action_layer"]), activation(), next(norms)]
    for layer, norm in zip(parts["hidden_layers"].children(), norms, strict=True):
        layers += [layer, activation(), norm]
    return nn.Sequential(*layers, parts["value_layer"])


def _joined(observation: nn.Module, other: nn.Module) -> nn.Linear:
    """Return the one layer over concat(observation, other) that two halves of a first layer are."""
    weight = torch.cat((observation.get_parameter("weight"), other.get_parameter("weight")), dim=1).detach()
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight.data, layer.bias.data = weight, observation.get_parameter("bias").detach().clone()
    return layer
