"""POCO: posterior optimization with a clipped objective (arXiv 2604.01860), and its rivals in the same code.

E-step   q(a|s) ~ pi(a|s) exp(Q(s, a) / eta), held as N candidates a_j ~ pi(.|s) with weights w = softmax(Q_j / eta).
M-step   minimise L_BC(a_D) + beta * sum_j w_j min(L_BC(a_j), zeta) over the actor.
Critic   minimise (Q(s, a) - [sum_i gamma^i r_i + gamma^E (1 - terminated) Qbar(s', a')])^2, one a' ~ pi(.|s').

L_BC is the loss the policy was cloned with. The agent sees a policy only through `encode`, `loss` and `sample`.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from poco.learner.agent_settings import AgentSettings, Phase
from poco.learner.blockwise import blocks, mapped, summed
from poco.learner.chunk_policy import ChunkPolicy
from poco.learner.critic import ChunkCritic
from poco.learner.fused import GRAIN, filled
from poco.learner.posterior import Posterior, clipped_loss, posterior_weights
from poco.learner.ranks import ALONE, Ranks
from poco.learner.windows import Batch
from poco.specification import Specification

Figures = dict[str, Tensor]
"""Diagnostics by name, each a number on the agent's device."""

LOSS_MAX = 1e6
"""A loss or gradient norm beyond this is an explosion; such an update is refused."""

TRUST_CANDIDATES = 8
BLOCK_ROWS = 1024
"""So many candidates go through E- and M-step at a time, for the sake of a CPU's cache; a GPU takes them all at once."""

VALUED_ROWS = 512
"""So many of them are valued at a time; the critic's heads need more room."""

CRITIC_NUMBERS = 32768
"""The critic learns from all states at once if one layer of a head has no more outputs for them than these; else from half."""


class Agent:
    """Actor, chunk critic, target critic and their optimizer; one learner process owns it.

    `threads` Python threads share the candidates out; torch itself should be set to one thread then. With several `ranks` each
    updates with its part of the batch, all of the same size, and all take the step of the whole batch.
    With `fixed_shapes` no shape depends on what is computed and no computation waits for the host, which is what a captured update
    needs (`captured_update`): weightless candidates then stay in the M-step.

    With observation step k, D = delay_steps and E = execute_steps, the critic reads the actions of steps k ... k + D + E - 1: the
    last D of the chunk before, then the first E of this one. Rewards and bootstrap count from step k to step k + E.
    """

    def __init__(
        self,
        policy: ChunkPolicy,
        critic: ChunkCritic,
        settings: AgentSettings,
        specification: Specification,
        threads: int = 1,
        ranks: Ranks = ALONE,
        fixed_shapes: bool = False,
    ) -> None:
        self.policy, self.critic, self.settings = policy, critic, settings
        self.target = copy.deepcopy(critic).requires_grad_(False)
        self.refused, self._threads, self.fixed_shapes = 0, threads, fixed_shapes
        self.device = next(iter(policy.parameters())).device
        on_cpu = self.device.type == "cpu"
        self._block_rows, self._valued_rows = (BLOCK_ROWS, VALUED_ROWS) if on_cpu else (sys.maxsize, sys.maxsize)
        self._critic_rows = CRITIC_NUMBERS // max(settings.critic_hidden_sizes) if on_cpu else sys.maxsize
        self._block_rows = min(self._block_rows, policy.rows_max or sys.maxsize)
        self._workers = ThreadPoolExecutor(threads) if threads > 1 else None
        self._delay, self._execute = specification.delay_steps, specification.execute_steps
        self._shape = (specification.chunk_steps, specification.action_size)
        self._noise_shape, self._ranks = policy.noise_shape or self._shape, ranks
        groups: list[dict[str, Any]] = [
            {"params": list(policy.parameters()), "lr": settings.actor_learning_rate},
            {"params": list(critic.parameters()), "lr": settings.critic_learning_rate},
        ]
        self._actor_parameters, self._critic_parameters = (list(group["params"]) for group in groups)
        self._target_parameters: list[Tensor] = list(self.target.parameters())
        self.optimizer = torch.optim.Adam(groups, fused=True, capturable=not on_cpu)
        self._averaged = ranks.averaged(self.loss, [*self._actor_parameters, *self._critic_parameters])

    def update(self, batch: Batch, phase: Phase, generator: torch.Generator) -> dict[str, float]:
        """Take one gradient step on critic and actor and return the diagnostics.

        A loss, target or gradient that is not finite or has exploded changes nothing but the count in `refused`.
        """
        figures = self.descend(batch, phase, generator)
        if self._ranks.agree(bool(self.sane(figures))):
            self.step()
        else:
            self.refused += 1
        return {name: float(figure) for name, figure in figures.items()}

    def descend(self, batch: Batch, phase: Phase, generator: torch.Generator) -> Figures:
        """Leave the gradient of the loss in the parameters and return the diagnostics."""
        total: Tensor
        figures: Figures
        total, figures = self._averaged(batch, phase, generator)
        self.optimizer.zero_grad()
        torch.autograd.backward(total)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return {**figures, "gradient_norm": torch.nn.utils.get_total_norm(gradients), "loss": total.detach()}

    def sane(self, figures: Figures) -> Tensor:
        """Return whether loss, target and gradient may enter the weights, one truth value on the device."""
        names = ("loss", "gradient_norm", "target_min", "target_max")
        sane = (torch.stack([figures[name] for name in names]).abs() <= LOSS_MAX).all()
        if self.settings.critic_loss == "bce":
            sane = sane & (figures["target_min"] >= 0.0) & (figures["target_max"] <= 1.0)
        return sane

    @torch.no_grad()
    def step(self, allowed: Tensor | None = None) -> None:
        """Step the weights along their gradients and let the target critic follow.

        `allowed`, one truth value on the device, says whether it happens at all, without the host having to know.
        """
        targets, critics = self._target_parameters, self._critic_parameters
        if allowed is None:
            self.optimizer.step()
            torch._foreach_lerp_(targets, critics, self.settings.target_rate)
            return
        share = allowed.to(targets[0].dtype)
        self.optimizer.found_inf = 1.0 - share  # type: ignore[attr-defined]
        self.optimizer.step()
        torch._foreach_addcmul_(
            targets, torch._foreach_sub(critics, targets), [share] * len(targets), self.settings.target_rate
        )

    def loss(self, batch: Batch, phase: Phase, generator: torch.Generator) -> tuple[Tensor, Figures]:
        """Return the sum of the critic's and, unless it is frozen, the actor's loss, with the diagnostics."""
        total, figures = self.critic_loss(batch, generator)
        if phase == "frozen":
            return total, figures
        actor_loss, actor_figures = self.actor_loss(batch, phase, generator)
        return total + actor_loss, figures | actor_figures

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Figures]:
        """Return the temporal-difference loss, mean over heads and batch, of the windows that count (see `endings`)."""
        states, precision = len(batch.observation), batch.observation.dtype
        ahead = self._noise(
            (states, self.settings.candidates if self.settings.method == "qc" else 1), precision, generator
        )
        endings = self._noise((states,), precision, generator) if self.settings.endings == "completed" else None

        def term(_: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            rows = batch.rows(part)
            loss, target = self._temporal_difference(rows, ahead[part], None if endings is None else endings[part])
            return loss * (len(rows.observation) / states), target

        parts = blocks(states, max(math.ceil(states / 2), self._critic_rows), self._threads)
        loss, targets = summed(term, batch.observation, self._critic_parameters, parts, self._workers)
        target = torch.cat(targets)
        figures = {
            "critic_loss": loss.detach(),
            "target_mean": target.mean(),
            "target_min": target.min(),
            "target_max": target.max(),
            "complete_fraction": batch.complete.mean(),
        }
        return loss, figures

    def _temporal_difference(self, batch: Batch, ahead: Tensor, endings: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the critic's loss on `batch`, and its target [B]; chunks are made of the noise `ahead` [B, N, T, A] and `endings`.

        Actions that an episode did not live to execute changed nothing; the policy's next ones stand for them.
        """
        settings, execute = self.settings, self._execute
        with torch.no_grad():
            following, pending = self._following(batch, ahead)
            discounts = settings.discount ** torch.arange(execute, dtype=batch.rewards.dtype, device=self.device)
            lived = batch.known[:, :execute]
            rewards = ((batch.rewards - settings.step_cost) * lived * discounts).sum(-1)
            seen = self._seen(batch.following, batch.step + execute)
            future = self.target.values(seen, following.unsqueeze(1), settings.aggregate).squeeze(-1)
            final = batch.last if settings.time_limit == "failure" else batch.terminated
            target = rewards + settings.discount**execute * (1.0 - final) * future
        executed, counted = batch.actions[:, :execute], batch.complete
        if endings is not None:
            executed, counted = self._completed(batch, endings), torch.ones_like(counted)
        actions = torch.cat((executed, pending), dim=1)
        raw = self.critic(self._seen(batch.observation, batch.step), actions.unsqueeze(1)).squeeze(-1)
        return (self.critic.loss(raw, target) * counted).mean(), target

    def actor_loss(self, batch: Batch, phase: Phase, generator: torch.Generator) -> tuple[Tensor, Figures]:
        """Return L_BC(a_D) + beta * sum_j w_j min(L_BC(a_j), zeta), mean over the batch; the second term in phase "learning"."""
        context = self.policy.encode(batch.observation)
        noise, time = self._draw((len(context),), context.dtype, generator)
        losses = self.policy.loss(context, batch.chunk, noise, time, batch.valid)
        anchored = batch.success if self.settings.anchor == "successes" else torch.ones_like(losses)
        counted = self._ranks.total(anchored.sum()) / self._ranks.count
        cloning = (losses * anchored).sum() / counted.clamp(min=1.0 / self._ranks.count)
        figures = {f"bc_loss_{name}": value for name, value in _spread(losses.detach()).items() if name != "std"}
        if phase == "cloning" or not self.settings.posterior:
            return cloning, figures
        improvement, more = self.improvement(context, batch, generator)
        return cloning + self.settings.beta * improvement, figures | more

    def improvement(self, context: Tensor, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Figures]:
        """Return the posterior term sum_j w_j min(L_BC(a_j), zeta), mean over the states that get candidates."""
        context = context[: self.settings.posterior_states // self._ranks.count or None]
        states, count = len(context), self.settings.candidates
        origin = self._noise((states, count), context.dtype, generator)
        noise, time = self._draw((states, count), context.dtype, generator)
        seen = self._seen(batch.observation, batch.step)

        def drawn(part: slice) -> Posterior:
            return self.e_step(context[part], seen[part], batch.actions[part, : self._delay], origin[part])

        parts = blocks(states, max(1, self._block_rows // count), self._threads)
        posterior = Posterior.joined(mapped(drawn, parts, self._workers))
        loss, losses = self.m_step(context, posterior, noise, time)
        return loss, self.diagnostics(posterior, losses)

    @torch.no_grad()
    def e_step(self, context: Tensor, seen: Tensor, pending: Tensor, noise: Tensor) -> Posterior:
        """Draw N chunks from the current actor at every state and weigh them by the target critic; nothing gets a gradient.

        `seen` [B, ...] is what the critic sees, `pending` [B, D, A] the actions still to be executed, `noise` [B, N, T, A].
        """
        count = noise.shape[1]
        chunks = self.policy.sample(context.repeat_interleave(count, dim=0), noise.flatten(0, 1)).reshape(
            *noise.shape[:2], *self._shape
        )
        values = self._values(self.target, seen, pending, chunks)
        if self.settings.method == "poco-noestep":
            weights = torch.full_like(values, 1.0 / count)
        else:
            weights = posterior_weights(values, self.settings.eta)
        return Posterior(chunks, values, weights)

    def m_step(self, context: Tensor, posterior: Posterior, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clipped posterior term, mean over the states, and the loss of every candidate, 0 where it was left out.

        `noise` [B, N, T, A] and `time` [B, N] are one draw for each candidate. Weightless candidates are left out, but for those
        that fill the last GRAIN rows; the first of each state never is.
        """
        weights = posterior.weights
        rows = torch.arange(weights.numel(), device=self.device)
        if not self.fixed_shapes:
            kept = self._kept(weights).flatten()
            rows = kept.sort(descending=True, stable=True).indices[: filled(int(kept.sum()), len(rows))]
        chunks, noise, time = (one.flatten(0, 1)[rows] for one in (posterior.chunks, noise, time))
        weighed, whole = weights.flatten()[rows], chunks.new_ones(chunks.shape[:2])

        def term(near: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            losses = self.policy.loss(near, chunks[part], noise[part], time[part], whole[part])
            return clipped_loss(losses, weighed[part], self.settings.clip) / len(weights), losses.detach()

        parts = blocks(len(rows), self._block_rows, self._threads, GRAIN)
        parameters = [parameter for parameter in self._actor_parameters if parameter.requires_grad]
        loss, found = summed(term, context[rows // weights.shape[1]], parameters, parts, self._workers)
        losses = weights.new_zeros(weights.numel()).index_put((rows,), torch.cat(found))
        return loss, losses.view_as(weights)

    def _kept(self, weights: Tensor) -> Tensor:
        """Return which candidates [B, N] take part in the M-step."""
        kept = weights >= self.settings.weightless
        kept[:, 0] = True
        return kept

    def diagnostics(self, posterior: Posterior, losses: Tensor) -> Figures:
        """Return the diagnostics of the posterior term with the candidates' `losses` [B, N].

        Where candidates were left out, those of losses and clipping are taken over the first of each state, a fair draw of all.
        """
        weights, values, clip = posterior.weights, posterior.values, self.settings.clip
        kept, trusted = self._kept(weights), values[:, :TRUST_CANDIDATES]
        seen = losses if self.fixed_shapes or bool(kept.all()) else losses[:, :1]
        figures = {
            "posterior_loss": clipped_loss(losses, weights, clip).mean(),
            "clipped_fraction": (seen > clip).float().mean(),
            "clipped_weight": (weights * (losses > clip)).sum(-1).mean(),
            "weightless_fraction": 1.0 - kept.float().mean(),
            "effective_sample_size": (1.0 / weights.square().sum(-1)).mean(),
            "best_of_8_gain": (trusted.amax(-1) - trusted[:, 0]).mean(),
        }
        for name, tensor in (("candidate_loss", seen), ("weight", weights), ("value", values)):
            figures |= {f"{name}_{statistic}": value for statistic, value in _spread(tensor).items()}
        return figures

    @torch.no_grad()
    def beliefs(self, batch: Batch) -> Tensor:
        """Return what the target critic expects [B] of the actions that were executed in complete windows."""
        seen = self._seen(batch.observation, batch.step)
        return self.target.values(seen, batch.actions.unsqueeze(1), self.settings.aggregate).squeeze(-1)

    @torch.no_grad()
    def best(self, observation: Tensor, step: Tensor, pending: Tensor, noise: Tensor) -> Tensor:
        """Return for each state the chunk [B, T, A] with the highest value among N samples.

        `observation` [B, O] is of step `step` [B], `pending` [B, D, A] the actions still to be executed, `noise` [B, N, T, A].
        """
        count = noise.shape[1]
        context = self.policy.encode(observation).repeat_interleave(count, dim=0)
        chunks = self.policy.sample(context, noise.flatten(0, 1)).view(*noise.shape[:2], *self._shape)
        return _pick(chunks, self._values(self.critic, self._seen(observation, step), pending, chunks))

    def _following(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the critic reads at the next observation [B, D + E, A], and its first D actions, still to be executed.

        The chunk comes from the first of `noise` [B, N, T, A], or is the best of N.
        """
        context, count = self.policy.encode(batch.following), noise.shape[1]
        chunks = self.policy.sample(context.repeat_interleave(count, dim=0), noise.flatten(0, 1)).reshape(
            *noise.shape[:2], *self._shape
        )
        real = batch.known[:, self._execute :].unsqueeze(-1).bool()
        pending = torch.where(real, batch.actions[:, self._execute :], chunks[:, 0, : self._delay])
        chosen = chunks[:, 0]
        if count > 1:
            seen = self._seen(batch.following, batch.step + self._execute)
            chosen = _pick(chunks, self._values(self.critic, seen, pending, chunks))
        return torch.cat((pending, chosen[:, : self._execute]), dim=1), pending

    @torch.no_grad()
    def _completed(self, batch: Batch, noise: Tensor) -> Tensor:
        """Return the first E actions [B, E, A] of each window, those beyond the end of its episode from one policy sample.

        `noise` [B, T, A] is what that is made of.
        """
        executed = batch.actions[:, : self._execute].clone()
        cut = torch.arange(len(executed), device=self.device)
        if not self.fixed_shapes:
            cut = cut[batch.complete == 0.0]
        chunk = self.policy.sample(self.policy.encode(batch.observation[cut]), noise[cut])
        meant = torch.cat((batch.actions[cut, : self._delay], chunk), dim=1)[:, : self._execute]
        known = batch.known[cut, : self._execute].unsqueeze(-1).bool()
        executed[cut] = torch.where(known, executed[cut], meant)
        return executed

    def _seen(self, observation: Tensor, step: Tensor) -> Tensor:
        """Return what the critic sees of `observation` [B, O] at step `step` [B]: with a clock it has one more entry, -1 to 1."""
        seen = self.policy.for_critic(observation)
        if not self.settings.critic_clock_steps:
            return seen
        clock = (2.0 * step / self.settings.critic_clock_steps - 1.0).clamp(max=1.0)
        return torch.cat((seen, clock.unsqueeze(-1)), dim=-1)

    def _values(self, critic: ChunkCritic, seen: Tensor, pending: Tensor, chunks: Tensor) -> Tensor:
        """Return the values [B, N] of `chunks` [B, N, T, A] that follow the actions `pending` [B, D, A]."""
        count = chunks.shape[1]
        actions = torch.cat((pending.unsqueeze(1).expand(-1, count, -1, -1), chunks[:, :, : self._execute]), dim=2)
        states = max(1, self._valued_rows // count)
        blocks = zip(torch.split(seen, states), torch.split(actions, states), strict=True)
        return torch.cat([critic.values(*block, self.settings.aggregate) for block in blocks])

    def _noise(self, rows: tuple[int, ...], precision: torch.dtype, generator: torch.Generator) -> Tensor:
        """Return the noise [*rows, T, A], or of the shape that the policy wants, that chunks are made of."""
        return self._drawn(torch.randn, (*rows, *self._noise_shape), precision, generator)

    def _draw(self, rows: tuple[int, ...], precision: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return noise [*rows, T, A] and time [*rows] of the policy's loss."""
        return self._noise(rows, precision, generator), self._drawn(torch.rand, rows, precision, generator)

    def _drawn(
        self, draw: Callable[..., Tensor], shape: tuple[int, ...], precision: torch.dtype, generator: torch.Generator
    ) -> Tensor:
        """Draw for all ranks and keep what belongs to this one's part of the batch."""
        everybody = (shape[0] * self._ranks.count, *shape[1:])
        return self._ranks.part(draw(everybody, generator=generator, dtype=precision, device=generator.device))


def _pick(chunks: Tensor, values: Tensor) -> Tensor:
    return chunks[torch.arange(len(chunks), device=chunks.device), values.argmax(-1)]


def _spread(values: Tensor) -> Figures:
    return {"mean": values.mean(), "std": values.std(correction=0), "max": values.max(), "min": values.min()}
