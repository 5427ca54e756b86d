"""POCO's update written straight from the paper in plain torch: the yardstick of bench/learner.py and the oracle of its tests.

Multilayer perceptrons over concat(observation, noisy chunk, t) and concat(observation, actions), a loop over the critic's heads,
autograd through everything, Adam as it comes. Every candidate takes part, all in float32. It knows what a recipe can tell otherwise
too, and draws its random numbers in the order in which the learner does, so the same generator gives both the same ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from poco.learner.agent import Agent
from poco.learner.agent_settings import AgentSettings, Phase
from poco.learner.critic import ChunkCritic
from poco.learner.networks import FlowPolicy
from poco.learner.windows import Batch
from poco.specification import Field, Specification

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
        """Raises ValueError for a method other than POCO, with its clip or without."""
        if settings.method not in ("poco", "poco-noclip"):
            raise ValueError(f"the plain update knows poco and poco-noclip, not {settings.method}")
        self.settings, self.specification = settings, specification
        self.mean, self.std = policy.mean, policy.std
        self.critic_mean, self.critic_std = critic.mean, critic.std
        self.steps = policy.architecture.euler_steps
        self.actor = _actor(policy, activation)
        heads = range(critic.architecture.heads)
        self.critic = nn.ModuleList(_head(critic, number, activation) for number in heads)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        rates = (self.actor, settings.actor_learning_rate), (self.critic, settings.critic_learning_rate)
        self.optimizer = torch.optim.Adam([{"params": one.parameters(), "lr": rate} for one, rate in rates])

    def update(self, batch: Batch, generator: torch.Generator, phase: Phase = "learning") -> float:
        """Take one step of the method and return its loss."""
        loss = self.loss(batch, generator, phase)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        with torch.no_grad():
            for slow, quick in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(quick, self.settings.target_rate)
        return float(loss.detach())

    def loss(self, batch: Batch, generator: torch.Generator, phase: Phase = "learning") -> Tensor:
        """Return critic loss + L_BC(a_D) + beta * sum_j w_j min(L_BC(a_j), zeta), means over the batch, as far as `phase` goes."""
        loss = self.critic_loss(batch, generator)
        if phase == "frozen":
            return loss
        losses = self.cloning_loss(batch.observation, batch.chunk, batch.valid, generator)
        anchored = batch.success if self.settings.anchor == "successes" else torch.ones_like(losses)
        loss = loss + (losses * anchored).sum() / max(1.0, float(anchored.sum()))
        return loss if phase == "cloning" else loss + self.settings.beta * self.posterior_loss(batch, generator)

    def posterior_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return sum_j w_j min(L_BC(a_j), zeta), mean over the states that get candidates."""
        settings, count = self.settings, self.settings.candidates
        states = settings.posterior_states or len(batch.observation)
        observation, step, before = (
            one[:states].repeat_interleave(count, dim=0)
            for one in (batch.observation, batch.step, batch.actions[:, : self.specification.delay_steps])
        )
        with torch.no_grad():
            chunks = self.sample(observation, generator)
            actions = torch.cat((before, chunks[:, : self.specification.execute_steps]), dim=1)
            values = self.values(self.target, observation, step, actions).view(-1, count)
            weights = torch.softmax(values / settings.eta, dim=-1)
        losses = self.cloning_loss(observation, chunks, torch.ones(chunks.shape[:2]), generator).view(-1, count)
        return (weights * losses.clamp(max=settings.clip)).sum(-1).mean()

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the temporal-difference error over E executed steps, mean over heads and batch."""
        settings, execute, delay = self.settings, self.specification.execute_steps, self.specification.delay_steps
        executed, counted = batch.actions[:, :execute], batch.complete
        with torch.no_grad():
            chunks = self.sample(batch.following, generator)
            real = batch.known[:, execute:, None] > 0
            pending = torch.where(real, batch.actions[:, execute:], chunks[:, :delay])
            next_actions = torch.cat((pending, chunks[:, :execute]), dim=1)
            future = self.values(self.target, batch.following, batch.step + execute, next_actions)
            final = batch.last if settings.time_limit == "failure" else batch.terminated
            gains = (batch.rewards - settings.step_cost) * batch.known[:, :execute]
            rewards = sum(settings.discount**i * gains[:, i] for i in range(execute))
            target = rewards + settings.discount**execute * (1.0 - final) * future
            if settings.endings == "completed":
                meant = torch.cat((batch.actions[:, :delay], self.sample(batch.observation, generator)), dim=1)
                executed = torch.where(batch.known[:, :execute, None] > 0, executed, meant[:, :execute])
                counted = torch.ones_like(counted)
        outputs = self.outputs(self.critic, batch.observation, batch.step, torch.cat((executed, pending), dim=1))
        if settings.critic_loss == "bce":
            errors = -target * functional.logsigmoid(outputs) - (1.0 - target) * functional.logsigmoid(-outputs)
        else:
            errors = (outputs - target).square()
        return (errors * counted).mean()

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

    def values(self, heads: nn.ModuleList, observation: Tensor, step: Tensor, actions: Tensor) -> Tensor:
        """Return the values [B] of all heads together."""
        outputs = self.outputs(heads, observation, step, actions)
        values = outputs.sigmoid() if self.settings.critic_loss == "bce" else outputs
        return values.min(0).values if self.settings.aggregate == "min" else values.mean(0)

    def outputs(self, heads: nn.ModuleList, observation: Tensor, step: Tensor, actions: Tensor) -> Tensor:
        """Return what the heads say [heads, B] of `actions` [B, D + E, A] from `observation` [B, O] of step `step` [B] on."""
        read, seen = actions, observation
        if self.settings.critic_reads == "remaining":
            read = torch.cat((actions, remaining(self.specification, observation, actions)), dim=-1)
        if self.settings.critic_clock_steps:
            over = torch.clamp(step / self.settings.critic_clock_steps, max=1.0)
            seen = torch.cat((observation, 2.0 * over[:, None] - 1.0), dim=-1)
        joined = torch.cat(((seen - self.critic_mean) / self.critic_std, read.flatten(1)), dim=-1)
        return torch.stack([head(joined).squeeze(-1) for head in heads])

    @torch.no_grad()
    def hand_over(self, policy: FlowPolicy, agent: Agent) -> None:
        """Write the weights as they are now into `policy` and into the critics of `agent`."""
        first = policy.observation_layer, policy.chunk_layer
        _give(self.actor, first, [*policy.hidden_layers, policy.velocity_layer])
        for learned, critic in ((self.critic, agent.critic), (self.target, agent.target)):
            for number, head in enumerate(learned):
                layers: list[Any] = [layer for layer in head.children() if list(layer.parameters())]
                joined, *mine = layers
                (observed, acted), *theirs = _stacks(critic)
                size = observed.weight.shape[2]
                observed.weight[number] = joined.weight[:, :size]
                observed.bias[number] = joined.bias
                acted.weight[number] = joined.weight[:, size:]
                for layer, (stack,) in zip(mine, theirs, strict=True):
                    stack.weight[number], stack.bias[number] = layer.weight, layer.bias


def remaining(specification: Specification, observation: Tensor, actions: Tensor) -> Tensor:
    """Return tanh((target - lead - sum of the actions so far) / half range of the target's finest view), [B, steps, elements]."""
    parts = []
    for target, lead, moved in (
        ("target_offset", "lead_position", "tip_step"),
        ("target_yaw_offset", "lead_yaw", "yaw_step"),
    ):
        views = sorted(_places(specification.observation, target), key=lambda view: float(view[1].max()))
        finest, coarsest = views[0], views[-1]
        (leading,), (moving,) = (
            _places(fields, source)
            for fields, source in ((specification.observation, lead), (specification.action, moved))
        )
        offset = _physical(observation, coarsest) - _physical(observation, leading)
        path = torch.stack(
            [_physical(actions[:, : step + 1], moving).sum(1) for step in range(actions.shape[1])], dim=1
        )
        parts.append(torch.tanh((offset[:, None] - path) / finest[1]))
    return torch.cat(parts, dim=-1)


def _places(fields: tuple[Field, ...], source: str) -> list[tuple[slice, Tensor, Tensor]]:
    """Return of every field of `source` where it stands, its half range and its middle."""
    ends = torch.tensor([field.size for field in fields]).cumsum(0).tolist()
    found = [(field, end) for field, end in zip(fields, ends, strict=True) if field.source == source]
    low_high = [(torch.tensor(field.low), torch.tensor(field.high)) for field, _ in found]
    return [
        (slice(end - field.size, end), (high - low) / 2.0, (high + low) / 2.0)
        for (field, end), (low, high) in zip(found, low_high, strict=True)
    ]


def _physical(scaled: Tensor, place: tuple[slice, Tensor, Tensor]) -> Tensor:
    where, half_range, middle = place
    return scaled[..., where] * half_range + middle


def _actor(policy: FlowPolicy, activation: Activation) -> nn.Sequential:
    layers: list[nn.Module] = [_joined(policy.observation_layer, policy.chunk_layer), activation()]
    for layer in policy.hidden_layers:
        layers += [copy.deepcopy(layer), activation()]
    return nn.Sequential(*layers, copy.deepcopy(policy.velocity_layer))


def _stacks(critic: ChunkCritic) -> list[tuple[Any, ...]]:
    """Return the layers of all heads from first to last, the two halves of the first one together."""
    inner = [(norm,) for norm in critic.norms]
    for place, layer in enumerate(critic.hidden_layers):
        inner.insert(2 * place + 1, (layer,))
    return [(critic.observation_layer, critic.action_layer), *inner, (critic.value_layer,)]


def _head(critic: ChunkCritic, number: int, activation: Activation) -> nn.Sequential:
    """Return head `number` of `critic` layer by layer."""
    (observed, acted), *theirs = _stacks(critic)
    weight = torch.cat((observed.weight[number], acted.weight[number]), dim=1)
    layers: list[nn.Module] = [_linear(weight, observed.bias[number]), activation()]
    for (stack,) in theirs:
        weight, bias = stack.weight[number], stack.bias[number]
        if weight.ndim == 2:
            layers += [_linear(weight, bias), activation()]
        else:
            norm = nn.LayerNorm(len(weight), dtype=weight.dtype)
            norm.weight.data, norm.bias.data = weight.detach().clone(), bias.detach().clone()
            layers.append(norm)
    return nn.Sequential(*layers[:-1])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()
    return layer


def _give(learned: nn.Module, first: tuple[nn.Module, nn.Module], rest: list[nn.Module]) -> None:
    """Write the layers of `learned` into the two halves of a first layer and the layers after it."""
    joined, *others = (layer for layer in learned.children() if list(layer.parameters()))
    observation, other = first
    size = observation.get_parameter("weight").shape[1]
    weight = joined.get_parameter("weight")
    observation.get_parameter("weight").copy_(weight[:, :size])
    observation.get_parameter("bias").copy_(joined.get_parameter("bias"))
    other.get_parameter("weight").copy_(weight[:, size:])
    for theirs, mine in zip(rest, others, strict=True):
        theirs.load_state_dict(mine.state_dict())


def _joined(observation: nn.Module, other: nn.Module) -> nn.Linear:
    """Return the one layer over concat(observation, other) that two halves of a first layer are."""
    weight = torch.cat((observation.get_parameter("weight"), other.get_parameter("weight")), dim=1)
    return _linear(weight, observation.get_parameter("bias"))
