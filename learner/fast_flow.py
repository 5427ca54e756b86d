"""FlowPolicy's three calls for the learner's hot path: the same equations, arranged for the caches of a CPU.

`sample` carries blocks of rows that stay in a processor's second-level cache through all Euler steps, a GPU all rows at once. It
overwrites features in place and, when told so, computes in bfloat16. That moves a candidate by some 1e-4 and nothing else: values,
weights and losses are computed in the parameters' own precision on the candidates really drawn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from poco.learner.fused import linear, linear_silu
from poco.learner.networks import Architecture, FlowPolicy, flow_loss

BLOCK_BYTES = 1 << 19
"""Features of one layer and block; two of them and the weights fit a second-level cache of 1 to 2 MiB."""

LEAST_ROWS = 128
"""Fewer rows are never computed in bfloat16: the conversions cost what the products save."""

CPU = torch.device("cpu")
PAIRS = 5
WORTH = 0.9
"""bfloat16 is chosen where it takes less than this share of the time of float32."""


class FastFlow:
    """A ChunkPolicy over the parameters of `policy`; only learner processes call it."""

    def __init__(self, policy: FlowPolicy, bf16: bool = False) -> None:
        self.policy, self.bf16 = policy, bf16

    noise_shape = None
    rows_max = None

    def for_critic(self, observation: Tensor) -> Tensor:
        """Return `observation`; see FlowPolicy."""
        return observation

    def encode(self, observation: Tensor) -> Tensor:
        """Return the context [B, H] of `observation` [B, O]."""
        return self.policy.encode(observation)

    def loss(self, context: Tensor, chunk: Tensor, noise: Tensor, time: Tensor, valid: Tensor) -> Tensor:
        """Return the flow-matching loss [B] of `chunk` [B, T, A]; see FlowPolicy."""
        return flow_loss(self._velocity, context, chunk, noise, time, valid)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the policy."""
        return self.policy.parameters()

    def _velocity(self, context: Tensor, point: Tensor, time: Tensor) -> Tensor:
        policy = self.policy
        inputs = torch.cat((point, time), dim=-1)
        features = functional.silu(context + linear(inputs, policy.chunk_layer.weight))
        for layer in policy.hidden_layers:
            features = functional.silu(linear(features, *layer.parameters()))
        return linear(features, *policy.velocity_layer.parameters())

    @torch.no_grad()
    def sample(self, context: Tensor, noise: Tensor) -> Tensor:
        """Return chunks [B, T, A] clamped to [-1, 1] without gradient, integrated from `noise` [B, T, A]."""
        bf16 = self.bf16 and len(noise) >= LEAST_ROWS
        layers = _Layers(self.policy, torch.bfloat16 if bf16 else context.dtype)
        point = noise.flatten(1).clone()
        rows = layers.rows if context.device.type == "cpu" else len(context)
        for near, block in zip(torch.split(context, rows), torch.split(point, rows), strict=True):
            layers.integrate(near, block)
        return point.clamp_(-1.0, 1.0).view_as(noise)


class _Layers:
    """The chunk half of a FlowPolicy's network in one precision, transposed as the products want it."""

    def __init__(self, policy: FlowPolicy, precision: torch.dtype) -> None:
        self.precision, self.euler_steps = precision, policy.architecture.euler_steps
        self.first = policy.chunk_layer.weight.to(precision).t()
        self.hidden = [self._cast(layer) for layer in policy.hidden_layers]
        self.velocity = self._cast(policy.velocity_layer)
        self.rows = max(1, BLOCK_BYTES // (max(policy.architecture.hidden_sizes) * precision.itemsize))

    def integrate(self, context: Tensor, point: Tensor) -> None:
        """Carry `point` [B, T * A] from t = 0 to 1 in place."""
        context = context.to(self.precision)
        inputs = torch.empty(len(point), point.shape[1] + 1, dtype=self.precision, device=point.device)
        for step in range(self.euler_steps):
            inputs[:, :-1] = point
            inputs[:, -1] = step / self.euler_steps
            features = functional.silu(torch.addmm(context, inputs, self.first), inplace=True)
            for weight, bias in self.hidden:
                features = linear_silu(features, weight, bias)
            point.add_(functional.linear(features, *self.velocity), alpha=1.0 / self.euler_steps)

    def _cast(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        weight, bias = (parameter.to(self.precision) for parameter in layer.parameters())
        return weight, bias


def bf16_is_faster(architecture: Architecture, rows: int, device: torch.device = CPU) -> bool:
    """Measure on `device`, in alternation, whether `rows` candidates are drawn clearly faster in bfloat16; takes under 2 s."""
    if rows < LEAST_ROWS:
        return False
    with torch.random.fork_rng(devices=[]):
        policy = FlowPolicy(architecture).to(device)
        drawn = min(rows, 2048) if device.type == "cpu" else rows
        noise = torch.randn(drawn, architecture.chunk_steps, architecture.action_size).to(device)
    context = torch.zeros(len(noise), architecture.hidden_sizes[0], device=device)
    spent_ns: dict[bool, list[int]] = {False: [], True: []}
    for pair in range(PAIRS + 1):
        for bf16 in spent_ns:
            before_ns = _now_ns(device)
            FastFlow(policy, bf16).sample(context, noise)
            if pair:
                spent_ns[bf16].append(_now_ns(device) - before_ns)
    return median(spent_ns[True]) < WORTH * median(spent_ns[False])


def _now_ns(device: torch.device) -> int:
    """Return the processor time of this thread, or the time when `device` has done all that it was given."""
    if device.type == "cpu":
        return time.thread_time_ns()
    torch.cuda.synchronize(device)
    return time.perf_counter_ns()
