"""Updates a second of the learner on a GPU: started kernel by kernel, and as one captured graph; a table, and JSON with host facts.

python bench/gpu_update.py [--sizes 512x4] [--batches 256x32] [--rounds 5] [--seconds 1] [--out FILE]

A size is WIDTHxLAYERS of actor and critics, a batch STATESxCANDIDATES, all candidates in the M-step, batches drawn from a replay of
40,000 steps: on the host for `host`, on the GPU otherwise. `host` and `eager` start every kernel from Python; `graph` is what
`poco-learner train --device cuda` does. Precision: float32 throughout, tf32 (factors of 10 bits) in all products, bf16 tf32
with the sampling chain in bfloat16. Rounds alternate between all of them; the figures are medians. `floor` is the work of the
update over the rate of one large product in that precision. Then, for a critic whose candidates spread by 20 eta, what tf32
moves: the values, in eta, and the weights of the E-step, as total variation, both against float64.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner import ACTION, OBSERVATION, gigaflop, networks, random_batch, specification
from poco.learner.agent import Agent
from poco.learner.agent_settings import AgentSettings, Phase
from poco.learner.captured_update import CapturedUpdate
from poco.learner.demonstrations import Recorded
from poco.learner.fast_flow import FastFlow
from poco.learner.posterior import posterior_weights
from poco.learner.replay import Replay
from poco.learner.replay_mirror import ReplayMirror
from poco.learner.windows import Batch
from poco.records import EpisodeEnd
from poco.runtime.run_folder import HostFacts, host_facts

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
EPISODES, STEPS = 200, 200
WAYS = (
    ("host", "tf32"),
    ("eager", "tf32"),
    ("graph", "float32"),
    ("graph", "tf32"),
    ("graph", "bf16 tf32"),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One size, batch and way: ms of one update in each round, the work over the rate of products (ms), memory at its peak."""

    size: str
    batch: str
    way: str
    precision: str
    ms: list[float]
    floor_ms: float
    peak_mib: float


class Precision(msgspec.Struct, frozen=True, kw_only=True):
    """What tf32 moves at one size: largest and root mean square error of a value (eta), mean total variation of the weights."""

    size: str
    value_error_max_eta: float
    value_error_rms_eta: float
    weight_variation: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON."""

    command: list[str]
    computer: HostFacts
    gpu: str
    driver: str
    torch: str
    product_tflop_s: dict[str, float]
    rows: list[Row]
    precision: list[Precision]


def some_replay(folder: Path) -> Replay:
    """Return a replay of random episodes, every second one a success."""
    spec, numbers = specification(), np.random.default_rng(0)
    replay = Replay.create(folder, spec, 20_000_000)
    for episode in range(EPISODES):
        end = EpisodeEnd(
            robot="none",
            boot_epoch=1,
            episode=episode,
            tick=0,
            final_observation=[0.0] * OBSERVATION,
            outcome="success" if episode % 2 else "failure",
            terminated=bool(episode % 2),
            truncated=not episode % 2,
        )
        replay.admit(
            Recorded(
                spec,
                numbers.uniform(-1, 1, (STEPS, OBSERVATION)).astype(np.float32),
                numbers.uniform(-1, 1, (STEPS, ACTION)).astype(np.float32),
                np.zeros(STEPS, np.float32),
                end,
            )
        )
    return replay


def set_precision(precision: str) -> None:
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")


def made(hidden: tuple[int, ...], settings: AgentSettings, precision: str, device: torch.device) -> Agent:
    """Return an agent on `device`."""
    policy, critic = networks(hidden, settings, random_batch(32, torch.Generator().manual_seed(0)))
    flow = FastFlow(policy.to(device), precision.startswith("bf16"))
    return Agent(flow, critic.to(device), settings, specification(), fixed_shapes=True)


def subject(
    way: str, precision: str, hidden: tuple[int, ...], states: int, settings: AgentSettings, replay: Replay
) -> Callable[[int], object]:
    """Return what takes so many updates in one `way`."""
    agent, generator = made(hidden, settings, precision, CUDA), torch.Generator(CUDA).manual_seed(0)
    mirror, host_generator = ReplayMirror(replay, CUDA), torch.Generator().manual_seed(0)
    mirror.refresh()

    def on_gpu() -> Batch:
        return mirror.sample(states, generator)

    if way == "graph":
        captured = CapturedUpdate(agent, on_gpu, generator, _ignore)
        return lambda count: captured.take(count, "learning")

    def eager(count: int) -> None:
        for _ in range(count):
            drawn = on_gpu() if way == "eager" else replay.sample(states, host_generator).to(CUDA)
            agent.update(drawn, "learning", generator)

    return eager


def measure(size: str, batch: str, rounds: int, seconds: float, rates: dict[str, float], replay: Replay) -> list[Row]:
    """Alternate the ways `rounds` times, each for about so many `seconds`."""
    width, layers = (int(part) for part in size.split("x"))
    states, candidates = (int(part) for part in batch.split("x"))
    hidden = (width,) * layers
    settings = AgentSettings(candidates=candidates, critic_hidden_sizes=hidden, weightless=0.0)
    takers, peaks, ms = {}, {}, {}
    for name in WAYS:
        set_precision(name[1])
        torch.cuda.reset_peak_memory_stats()
        takers[name] = subject(*name, hidden, states, settings, replay)
        takers[name](5)
        peaks[name] = torch.cuda.max_memory_allocated() / 2**20
        ms[name] = list[float]()
    for _ in range(rounds):
        for name, take in takers.items():
            set_precision(name[1])
            count = max(5, int(seconds / _seconds(take, 5) * 5))
            ms[name].append(1e3 * _seconds(take, count) / count)
    work = gigaflop(hidden, states, settings, 10)
    return [
        Row(
            size=size,
            batch=batch,
            way=way,
            precision=precision,
            ms=ms[way, precision],
            floor_ms=work / rates[precision.split()[-1]],
            peak_mib=peaks[way, precision],
        )
        for way, precision in WAYS
    ]


def what_tf32_moves(size: str) -> Precision:
    """Return how far the values and weights of 256 x 32 candidates are from those in float64."""
    width, layers = (int(part) for part in size.split("x"))
    settings = AgentSettings(critic_hidden_sizes=(width,) * layers)
    set_precision("tf32")
    agent, generator = made((width,) * layers, settings, "tf32", CUDA), torch.Generator(CUDA).manual_seed(0)
    seen = 2.0 * torch.rand(256, OBSERVATION, generator=generator, device=CUDA) - 1.0
    noise = torch.randn(256, 32, 5, ACTION, generator=generator, device=CUDA)
    pending = torch.zeros(256, 0, ACTION, device=CUDA)
    posterior = agent.e_step(agent.policy.encode(seen), seen, pending, noise)
    exact = agent.target.double().values(seen.double(), posterior.chunks.double(), "mean")
    error = (posterior.values - exact) / settings.eta
    variation = (posterior.weights - posterior_weights(exact, settings.eta)).abs().sum(-1) / 2.0
    return Precision(
        size=size,
        value_error_max_eta=float(error.abs().max()),
        value_error_rms_eta=float(error.square().mean().sqrt()),
        weight_variation=float(variation.mean()),
    )


def product_rate(precision: str) -> float:
    """Return TFLOP/s of products of 8192 x 8192 random matrices."""
    set_precision(precision)
    one, two = (torch.randn(8192, 8192, device=CUDA) for _ in range(2))

    def take(count: int) -> Tensor:
        for _ in range(count):
            product = one @ two
        return product

    take(3)
    return 2e-12 * 8192**3 * 10 / _seconds(take, 10)


def table(rows: list[Row]) -> str:
    lines = [
        f"{'size':6} {'batch':8} {'way':6} {'precision':10} {'ms':>8} {'updates/s':>10} {'floor ms':>9} {'MiB':>7}"
    ]
    for row in rows:
        median = float(np.median(row.ms))
        lines.append(
            f"{row.size:6} {row.batch:8} {row.way:6} {row.precision:10} {median:8.3f} {1e3 / median:10.0f} {row.floor_ms:9.3f} "
            f"{row.peak_mib:7.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=("128x3", "256x4", "512x4"), metavar="WxL")
    parser.add_argument("--batches", nargs="+", default=("256x32", "48x16"), metavar="BxN")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="alternating rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each way in a round (default 0.5)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu_update.json"), metavar="FILE")
    flags = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no GPU: this benchmark is of nothing else")
    rates = {precision: product_rate(precision) for precision in ("float32", "tf32")}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        replay = some_replay(Path(folder) / "replay")
        for size in flags.sizes:
            for batch in flags.batches:
                rows += measure(size, batch, flags.rounds, flags.seconds, rates, replay)
    moved = [what_tf32_moves(size) for size in flags.sizes]
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=True,
    )
    report = Report(
        command=["python", "bench/gpu_update.py", *(f"{name}={value}" for name, value in vars(flags).items())],
        computer=host_facts(),
        gpu=torch.cuda.get_device_name(),
        driver=driver.stdout.strip(),
        torch=f"{torch.__version__}, CUDA {torch.version.cuda}",
        product_tflop_s=rates,
        rows=rows,
        precision=moved,
    )
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    flags.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print(f"{report.gpu}, driver {report.driver}, torch {report.torch}; products {rates}")
    print(table(rows))
    for one in moved:
        print(one)
    print(flags.out)


def _seconds(take: Callable[[int], object], count: int) -> float:
    torch.cuda.synchronize()
    before = time.perf_counter()
    take(count)
    torch.cuda.synchronize()
    return time.perf_counter() - before


def _ignore(phase: Phase) -> None:
    """No average follows."""


if __name__ == "__main__":
    main()
