"""CPU time of the learner's update against plain eager torch, alternating in one process; a table, and JSON with host facts.

python bench/learner.py [--sizes 256x4] [--batches 256x32] [--threads 1 2] [--pairs 5] [--out FILE] [--quick]

A size is WIDTHxLAYERS of actor and critics, a batch STATESxCANDIDATES. `plain` is bench/plain_update.py with the networks' SiLU,
`plain, tanh-GELU` the same with the activation of the published code, `all` the learner with every candidate in the M-step
and `dropped` as it is configured, without the weightless ones. One thread is compared by CPU time, several by wall clock, which
is worth something on an idle machine only. Ratios are those of pairs that followed each other: 10th, 50th and 90th percentile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import torch
from plain_update import PlainUpdate
from torch import nn

from poco.learner.agent import Agent
from poco.learner.agent_settings import AgentSettings
from poco.learner.critic import ChunkCritic, CriticArchitecture
from poco.learner.fast_flow import FastFlow, bf16_is_faster
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.windows import Batch
from poco.runtime.run_folder import HostFacts, host_facts
from poco.specification import Field, Specification

OBSERVATION, ACTION, CHUNK = 40, 7, 5
SPREAD = 20.0
"""Standard deviation of the candidates' values at a state, in eta: those of a critic that knows something."""

SIZES, BATCHES = ("128x3", "256x4", "512x4"), ("256x32", "48x16")
BASE, OTHER, FAST = "plain", "plain, tanh-GELU", ("all", "dropped")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one size, batch and number of threads gave; times in ms, ratios plain / learner by subject and percentile."""

    size: str
    batch: str
    threads: int
    clock: str
    bf16_sampling: bool
    weightless_fraction: float
    ms: dict[str, list[float]]
    ratios: dict[str, dict[str, float]]
    share_of_product_rate: dict[str, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON; `gflop_s` is the rate of float32 products of 1024 rows with a square matrix, one thread, by width."""

    command: list[str]
    computer: HostFacts
    gflop_s: dict[str, float]
    rows: list[Row]


def specification() -> Specification:
    """Return that of the reference setting: chunks of 5 actions, all executed."""
    numbers = Field(
        name="state", source="state", frame="none", unit="1", low=(-1.0,) * OBSERVATION, high=(1.0,) * OBSERVATION
    )
    joints = Field(name="joints", source="joints", frame="none", unit="rad", low=(-1.0,) * ACTION, high=(1.0,) * ACTION)
    return Specification(
        name="bench",
        robot="fr3",
        rate_hz=20.0,
        chunk_steps=CHUNK,
        execute_steps=CHUNK,
        delay_steps=0,
        action_space="joint_position",
        delta_base="none",
        gripper="none",
        flange_t_tip=tuple(np.eye(4).ravel().tolist()),
        rest_q=(0.0,) * 7,
        observation=(numbers,),
        action=(joints,),
    )


def random_batch(states: int, generator: torch.Generator) -> Batch:
    """Return complete windows of noise; an update takes the same time whatever they hold."""

    def uniform(*shape: int) -> torch.Tensor:
        return 2.0 * torch.rand(states, *shape, generator=generator) - 1.0

    ones, zeros = torch.ones(states), torch.zeros(states)
    return Batch(
        observation=uniform(OBSERVATION),
        chunk=uniform(CHUNK, ACTION),
        valid=torch.ones(states, CHUNK),
        actions=uniform(CHUNK, ACTION),
        known=torch.ones(states, CHUNK),
        rewards=torch.zeros(states, CHUNK),
        following=uniform(OBSERVATION),
        complete=ones,
        last=zeros,
        terminated=zeros,
        success=ones,
        step=zeros,
    )


def networks(hidden: tuple[int, ...], settings: AgentSettings, batch: Batch) -> tuple[FlowPolicy, ChunkCritic]:
    """Return a policy and a critic whose values of its candidates spread by SPREAD eta."""
    torch.manual_seed(0)
    spec = specification()
    policy = FlowPolicy(Architecture.of(spec, hidden))
    critic = ChunkCritic(CriticArchitecture.of(spec, hidden, settings.critic_heads, settings.critic_loss, clock=False))
    with torch.no_grad():
        some = batch.observation[:8].repeat_interleave(64, dim=0)
        chunks = policy(some, torch.randn(len(some), CHUNK, ACTION))
        spread = critic.values(some, chunks.unsqueeze(1), "mean").view(8, 64).std(1).mean()
        critic.value_layer.weight.mul_(SPREAD * settings.eta / spread)
    return policy, critic


def gigaflop(hidden: tuple[int, ...], states: int, settings: AgentSettings, euler_steps: int) -> float:
    """Return the floating-point work (1e9) of the matrix products of one update as published."""
    chunk, candidates = CHUNK * ACTION, states * settings.candidates
    inner = sum(one * two for one, two in pairwise(hidden))
    actor = (OBSERVATION + chunk + 1) * hidden[0] + inner + hidden[-1] * chunk
    critic = settings.critic_heads * ((OBSERVATION + chunk) * hidden[0] + inner + hidden[-1])
    actor_rows = (candidates + states) * (euler_steps + 3)
    return 2e-9 * (actor * actor_rows + critic * (candidates + 4 * states))


def product_rate(width: int) -> float:
    """Return the best of ten rates (GFLOP/s) at which this thread multiplies 1024 rows with a square matrix."""
    rows, weight = torch.randn(1024, width), torch.randn(width, width)
    spent_s = min(spent(lambda: torch.mm(rows, weight), time.thread_time) for _ in range(10))
    return 2e-9 * 1024 * width * width / spent_s


def spent(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return how long `call` took by `clock` (s)."""
    before = clock()
    call()
    return clock() - before


def measure(size: str, batch_size: str, threads: int, pairs: int, rate: float) -> Row:
    """Alternate plain update and learner `pairs` times after a first round that does not count."""
    width, layers = (int(part) for part in size.split("x"))
    states, candidates = (int(part) for part in batch_size.split("x"))
    hidden, generator = (width,) * layers, torch.Generator().manual_seed(0)
    settings = AgentSettings(candidates=candidates, critic_hidden_sizes=hidden)
    batch, spec = random_batch(states, generator), specification()
    policy, critic = networks(hidden, settings, batch)
    torch.set_num_threads(1)
    bf16 = bf16_is_faster(policy.architecture, states * candidates)
    everything = msgspec.structs.replace(settings, weightless=0.0)
    figures: dict[str, float] = {}

    def fast(configured: AgentSettings) -> Callable[[], None]:
        made, valued = networks(hidden, configured, batch)
        agent = Agent(FastFlow(made, bf16), valued, configured, spec, threads=threads)
        return lambda: figures.update(agent.update(batch, "learning", generator))

    def plain(activation: type[nn.Module]) -> Callable[[], float]:
        yardstick = PlainUpdate(policy, critic, settings, spec, activation)
        return lambda: yardstick.update(batch, generator)

    subjects: dict[str, Callable[[], object]] = {
        BASE: plain(nn.SiLU),
        OTHER: plain(_TanhGelu),
        "all": fast(everything),
        "dropped": fast(settings),
    }
    clock = time.process_time if threads == 1 else time.perf_counter
    ms: dict[str, list[float]] = {name: [] for name in subjects}
    for pair in range(pairs + 1):
        for name, update in subjects.items():
            torch.set_num_threads(1 if name in FAST else threads)
            took_s = spent(update, clock)
            if pair:
                ms[name].append(1e3 * took_s)
    torch.set_num_threads(1)
    work = gigaflop(hidden, states, settings, policy.architecture.euler_steps)
    return Row(
        size=size,
        batch=batch_size,
        threads=threads,
        clock="CPU" if threads == 1 else "wall",
        bf16_sampling=bf16,
        weightless_fraction=figures["weightless_fraction"],
        ms=ms,
        ratios={f"{base} / {name}": _percentiles(ms[base], ms[name]) for name in FAST for base in (BASE, OTHER)},
        share_of_product_rate={
            name: 1e3 * work / rate / threads / float(np.median(taken)) for name, taken in ms.items()
        },
    )


def table(rows: list[Row]) -> str:
    """Return the medians (ms), ratios as p50 (p10 to p90) and shares of all rows as lines of text."""
    lines = [
        f"{'size':7} {'batch':7} thr clock {'plain':>8} {'GELU':>8} {'all':>8} {'dropped':>8}"
        f"  {'plain/all':>18} {'plain/dropped':>18} {'GELU/all':>8} {'GELU/dr.':>8}  share of product rate"
    ]
    for row in rows:
        times = " ".join(f"{np.median(taken):8.1f}" for taken in row.ms.values())
        ranges = " ".join(
            f"{ratio['p50']:5.2f} ({ratio['p10']:.2f} to {ratio['p90']:.2f})"
            for ratio in (row.ratios[f"{BASE} / {name}"] for name in FAST)
        )
        others = " ".join(f"{row.ratios[f'{OTHER} / {name}']['p50']:8.2f}" for name in FAST)
        shares = " ".join(f"{name} {share:.2f}" for name, share in row.share_of_product_rate.items() if name != OTHER)
        lines.append(f"{row.size:7} {row.batch:7} {row.threads:3} {row.clock:5} {times}  {ranges} {others}  {shares}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WxL", help="widths and layers of the networks")
    parser.add_argument("--batches", nargs="+", default=BATCHES, metavar="BxN", help="states and candidates")
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2), metavar="N")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="alternating pairs that count (default 5)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/learner.json"), metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="smallest networks, one pair: does it run?")
    flags = parser.parse_args()
    if flags.quick:
        flags.sizes, flags.batches, flags.pairs = ["16x2"], ["8x4"], 1
    torch.set_num_threads(1)
    rates = {size: product_rate(int(size.split("x")[0])) for size in flags.sizes}
    rows = []
    for threads in flags.threads:
        for size in flags.sizes:
            for batch in flags.batches:
                rows.append(measure(size, batch, threads, flags.pairs, rates[size]))
                print(table(rows[-1:]) if len(rows) == 1 else table(rows[-1:]).splitlines()[1], flush=True)
    command = ["python", "bench/learner.py", *(f"{name}={value}" for name, value in vars(flags).items())]
    report = Report(command=command, computer=host_facts(), gflop_s=rates, rows=rows)
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    flags.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print(flags.out)


class _TanhGelu(nn.GELU):
    def __init__(self) -> None:
        super().__init__(approximate="tanh")


def _percentiles(base: list[float], fast: list[float]) -> dict[str, float]:
    ratios = np.array(base) / np.array(fast)
    return {f"p{percent}": float(np.percentile(ratios, percent)) for percent in (10, 50, 90)}


if __name__ == "__main__":
    main()
