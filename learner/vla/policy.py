"""The three calls of the learner for a vision-language-action policy of LeRobot: the prefix is frozen, the expert learns.

Everything that images, prompt and (SmolVLA, pi0.5) state lead to before the first step of the flow is computed once for an
observation, without gradient, and shared by all its candidates. pi0 reads the state in every step instead, so that where
nothing is seen one prefix serves all observations.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from poco.errors import ArtifactError
from poco.learner.encoder import with_features
from poco.learner.vla import flow
from poco.learner.vla.eyes import Eyes
from poco.learner.vla.flow import Prefix, Told
from poco.learner.vla.network import VlaNetwork
from poco.learner.vla.numbers import Numbers
from poco.learner.vla.prefixes import Prefixes
from poco.learner.vla.tokens import Tokenizer
from poco.specification import Specification
from poco.vla import Vla
from poco.vla_numbers import prompt_text, step_size, times

CACHE_BYTES = 1 << 30
"""So much of prefixes is kept; what does not fit is computed again."""

CALL_BYTES = 1 << 28
"""So much of prefixes goes into one call of the library, which copies them for every row."""

MADE_ROWS = 64
"""At most so many prefixes are made in one call of the library, and of images no more than CALL_BYTES."""

TIME_POWER, TIME_SCALE, TIME_OFFSET = 1.0 / 1.5, 0.999, 0.001
"""The library draws time from Beta(1.5, 1) * 0.999 + 0.001; u ** (1 / 1.5) of a uniform u is Beta(1.5, 1)."""


class VlaPolicy:
    """A ChunkPolicy over the expert of the library's `library` policy; only learner processes call it.

    Its `parameters` and `state_dict` are those of the expert, by their names in the checkpoint; everything else stays as it is. A
    deep copy has an expert of its own and shares the rest. Contexts are the observations themselves, in whose rows prefixes are
    found again.
    """

    def __init__(
        self,
        library: Any,
        vla: Vla,
        specification: Specification,
        tokenizer: Tokenizer,
        network: VlaNetwork,
        cache_bytes: int = CACHE_BYTES,
        eyes: Eyes | None = None,
    ) -> None:
        """`vla` are the rules of its numbers, `network` is what it can be built from again, `specification` what it is told.

        With `eyes` it sees, and its own `specification` has the marks of images in front.
        """
        _fits(vla, specification)
        self._library, self._vla, self.network, self.eyes = library, vla, network, eyes
        self.specification = specification if eyes is None else with_features(specification, eyes)
        self._marks = 0 if eyes is None else eyes.size
        self._tokenizer, self.prefixes = tokenizer, Prefixes(cache_bytes)
        library.requires_grad_(False).eval()
        for _, parameter in flow.trained(library):
            parameter.requires_grad_(True)
        self._rows = slice(vla.first_action, vla.first_action + specification.chunk_steps)
        self._numbers = Numbers(vla, specification)
        self._stateless = flow.reads_state(library) and vla.prompt.template == "task"
        self._shared = self._stateless and eyes is None
        image_bytes = sum(4 * 3 * camera.height * camera.width for camera in vla.cameras)
        self._made_rows = max(1, min(MADE_ROWS, CALL_BYTES // image_bytes))

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape [T, W] of the noise that one chunk is made of."""
        return self._vla.chunk_length, self._vla.width

    @property
    def device(self) -> torch.device:
        """Where the library's policy is."""
        return next(self.parameters()).device

    @property
    def rows_max(self) -> int | None:
        """So many rows may be in one sum of losses: each holds a copy of its prefix until its gradient is there."""
        (some,) = self._kept(torch.zeros(1, self.specification.observation_size, device=self.device))
        return max(1, CALL_BYTES // some.bytes_each)

    @torch.no_grad()
    def for_critic(self, observation: Tensor) -> Tensor:
        """Return `observation` [B, O], the proprioception, and behind it what the frozen part made of images and prompt.

        That is the mean over the real positions of the values in the last layer of the prefix, to which the expert's last layer
        attends, normalised to mean 0 and variance 1: [B, heads * d] numbers that never change while the expert learns, so that a
        critic need not follow them. What the paper's critic reads it does not say. Where one prefix serves all observations there
        is nothing to add. The marks of images, which say nothing, are 0 for it.
        """
        if self._shared or not len(observation):
            return observation
        found = []
        for one in self._kept(observation):
            values, real = one.values[-1, 0], one.real[0].to(one.values.dtype)
            mean = (values * real[:, None]).sum(1) / real.sum()
            found.append(functional.layer_norm(mean.flatten(), (mean.numel(),)))
        unmarked = functional.pad(observation[:, self._marks :], (self._marks, 0))
        return torch.cat((unmarked, torch.stack(found)), dim=-1)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the expert."""
        return (parameter for _, parameter in flow.trained(self._library))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of the expert by their names in the checkpoint; they change as it learns."""
        return {name: parameter.detach() for name, parameter in flow.trained(self._library)}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the expert in `tensors`; raises RuntimeError if they are not exactly its tensors."""
        ours = self.state_dict()
        if {name: one.shape for name, one in tensors.items()} != {name: one.shape for name, one in ours.items()}:
            odd = sorted(set(tensors) ^ set(ours))[:5] or ["shapes"]
            raise RuntimeError(f"these are not the tensors of the expert ({', '.join(odd)})")
        for name, tensor in tensors.items():
            ours[name].copy_(tensor)

    def to(self, device: torch.device | str) -> VlaPolicy:
        """Move the policy to `device`; return it."""
        self._library.to(device)
        self._numbers.to(torch.device(device))
        self.prefixes = Prefixes(self.prefixes.limit_bytes)
        return self

    def cpu(self) -> VlaPolicy:
        """Move the policy to the CPU; return it."""
        return self.to("cpu")

    def __deepcopy__(self, memo: dict[int, Any]) -> VlaPolicy:
        """Return a policy with an expert of its own that shares everything frozen."""
        learning = {id(parameter) for parameter in self.parameters()}
        still = [*self._library.parameters(), *self._library.buffers()]
        shared = {id(tensor): tensor for tensor in still if id(tensor) not in learning}
        made = copy.copy(self)
        made._library = copy.deepcopy(self._library, shared)
        return made

    def encode(self, observation: Tensor) -> Tensor:
        """Return the context [B, O] of `observation` [B, O], and have its prefixes ready as far as they may be kept."""
        if len(observation):
            self._kept(observation)
        return observation

    def loss(self, context: Tensor, chunk: Tensor, noise: Tensor, time: Tensor, valid: Tensor) -> Tensor:
        """Return the flow-matching loss [B] of `chunk` [B, T, A]: mean over the true elements of its `valid` [B, T] actions.

        `noise` is [B, T, W] of the model, `time` [B] uniform in 0 to 1.
        """
        clean, moment = self._numbers.clean(context[:, self._marks :], chunk), flow_time(time)
        point = torch.lerp(clean, noise, moment[:, None, None])
        found = torch.cat(
            [
                noise[:0],
                *(
                    flow.velocity(self._library, before, point[rows], moment[rows], state)
                    for rows, before, state in self._calls(context)
                ),
            ]
        )
        error = (noise - clean - found)[:, self._rows, : self._vla.action.size].square()
        counted = valid.sum(-1).clamp(min=1.0) * self._vla.action.size
        return (error * valid.unsqueeze(-1)).flatten(1).sum(-1) / counted

    @torch.no_grad()
    def sample(self, context: Tensor, noise: Tensor) -> Tensor:
        """Return chunks [B, T, A] in -1 ... 1, integrated from `noise` [B, T, W] of the model in the steps of its schedule."""
        ends = [self._moved(before, noise[rows], state) for rows, before, state in self._calls(context)]
        return self._numbers.executed(context[:, self._marks :], torch.cat([noise[:0], *ends]))

    @torch.no_grad()
    def integrated(self, told: Told, state: Tensor, noise: Tensor) -> Tensor:
        """Return the model's whole chunks [B, T, W] that become of `noise` for what is `told` at the normalised `state` [B, W]."""
        return self._moved(flow.prefix(self._library, told, state), noise, state)

    def _moved(self, before: Prefix, noise: Tensor, state: Tensor) -> Tensor:
        schedule, point = self._vla.schedule, noise.clone()
        for moment in times(schedule):
            time = torch.full((len(point),), float(moment), device=point.device)
            point.add_(flow.velocity(self._library, before, point, time, state), alpha=step_size(schedule))
        return point

    def __call__(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return the chunks [B, T, A] for `observation` [B, O] and `noise` [B, T, W]."""
        return self.sample(self.encode(observation), noise)

    def _calls(self, context: Tensor) -> Iterator[tuple[slice, Prefix, Tensor]]:
        """Return rows of `context` [R, O] that go into one call of the library, their prefixes and their states [rows, W].

        Neighbouring rows of the same observation share a prefix.
        """
        state, known = self._numbers.state(context[:, self._marks :]), context.detach()
        if not len(known):
            return
        if self._shared:
            different, owners = known[:1], torch.zeros(len(known), dtype=torch.long, device=known.device)
        else:
            different, owners = torch.unique_consecutive(known, dim=0, return_inverse=True)
        size = max(1, CALL_BYTES // self._kept(different[:1])[0].bytes_each)
        for first in range(0, len(known), size):
            rows = slice(first, min(first + size, len(known)))
            least, most = (int(owners[place]) for place in (rows.start, rows.stop - 1))
            before = Prefix.joined(self._kept(different[least : most + 1]))
            yield rows, before.rows(owners[rows] - least), state[rows]

    def _kept(self, observations: Tensor) -> list[Prefix]:
        """Return the prefix of each of the `observations` [D, O], from what is kept where it is there."""
        entering = observations[:, : self._marks] if self._stateless else observations
        keys: list[Hashable] = [row.tobytes() for row in entering.cpu().numpy()]
        return self.prefixes.of(keys, lambda places: self._made(observations[places]))

    @torch.no_grad()
    def _made(self, observations: Tensor) -> Prefix:
        state = self._numbers.state(observations[:, self._marks :])
        parts = [slice(first, first + self._made_rows) for first in range(0, len(state), self._made_rows)]
        return Prefix.joined(
            [flow.prefix(self._library, self._told(observations[part]), state[part]) for part in parts]
        )

    def _told(self, observations: Tensor) -> Told:
        """Return what is seen and told at the `observations` [D, O]: the images that they name, and the prompt."""
        states = self._numbers.normalised(observations[:, self._marks :]).cpu().numpy()
        texts = [prompt_text(self._vla, self.network.task, state) for state in states]
        words = zip(*(self._tokenizer.encode(text, self._vla.prompt.length) for text in texts), strict=True)
        tokens, real = (torch.from_numpy(np.concatenate(part)).to(self.device) for part in words)
        pixels, there = self._seen(observations[:, : self._marks])
        return Told(pixels, there, tokens, real)

    def _seen(self, marks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images [D, C, 3, H, W] in -1 ... 1 that `marks` [D, M] name, -1 where none is there, and which are [D, C]."""
        count, cameras = len(marks), self._vla.cameras
        pixels = torch.full((count, len(cameras), 3, cameras[0].height, cameras[0].width), -1.0, device=self.device)
        there = torch.zeros(count, len(cameras), dtype=torch.bool, device=self.device)
        if self.eyes is not None:
            used = [place for place, one in enumerate(cameras) if one.camera is not None]
            images, shown = (found.to(self.device) for found in self.eyes.look(marks))
            pixels[:, used] = torch.where(shown[:, :, None, None, None], images.float() / 255.0 * 2.0 - 1.0, -1.0)
            there[:, used] = shown
        return pixels, there


def flow_time(uniform: Tensor) -> Tensor:
    """Return times as the library draws them, Beta(1.5, 1) * 0.999 + 0.001, of `uniform` ones in 0 to 1."""
    return uniform.pow(TIME_POWER) * TIME_SCALE + TIME_OFFSET


def _fits(vla: Vla, specification: Specification) -> None:
    last = vla.first_action + specification.chunk_steps
    if last > vla.chunk_length:
        raise ArtifactError(
            f"chunk_steps is {specification.chunk_steps}, the model gives {vla.chunk_length - vla.first_action} actions: choose a "
            "specification with shorter chunks"
        )
    sizes = (vla.state.size, vla.action.size)
    if sizes != (specification.observation_size, specification.action_size):
        raise ArtifactError(
            f"the model reads {sizes[0]} and gives {sizes[1]} numbers, the specification has {specification.observation_size} and "
            f"{specification.action_size}: choose the specification of its data"
        )
