"""Started by torchrun: updates on this rank's part of random batches; rank 0 leaves the weights in the folder that is given."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file

from learning_toys import SMALL, small_agent
from poco.learner.agent_settings import Phase
from poco.learner.ranks import joined
from poco.learner.windows import Batch
from reach_task import SPECIFICATION

STATES = 32
LEARNING: tuple[Phase, ...] = ("learning",) * 10
PHASES: tuple[Phase, ...] = ("frozen", "cloning", *LEARNING)


def random_batch(draws: torch.Generator) -> Batch:
    """Windows of the reach task that hold noise; some are incomplete, some terminated."""
    delay, execute, chunk = SPECIFICATION.delay_steps, SPECIFICATION.execute_steps, SPECIFICATION.chunk_steps
    flags = (torch.rand(6, STATES, generator=draws) < 0.7).float()
    return Batch(
        observation=torch.randn(STATES, 6, generator=draws),
        chunk=torch.rand(STATES, chunk, 4, generator=draws),
        valid=torch.ones(STATES, chunk),
        actions=torch.rand(STATES, delay + execute, 4, generator=draws),
        known=flags[:1].t().expand(STATES, delay + execute),
        rewards=torch.rand(STATES, execute, generator=draws),
        following=torch.randn(STATES, 6, generator=draws),
        complete=flags[1],
        last=flags[2],
        terminated=flags[3],
        success=flags[4],
        step=torch.arange(STATES).float(),
    )


def main() -> None:
    torch.set_num_threads(1)
    with joined() as ranks:
        settings = msgspec.structs.replace(SMALL, weightless=0.0)
        agent = small_agent(SPECIFICATION, settings, ranks=ranks, seed=ranks.rank)
        agent.target.load_state_dict(agent.critic.state_dict())
        batches, draws = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
        for phase in PHASES:
            whole = random_batch(batches)
            agent.update(Batch(*(ranks.part(getattr(whole, name)) for name in Batch.__slots__)), phase, draws)
        poisoned = random_batch(batches)
        if ranks.rank == ranks.count - 1:
            poisoned.rewards.fill_(torch.nan)
        agent.update(Batch(*(ranks.part(getattr(poisoned, name)) for name in Batch.__slots__)), "learning", draws)
        modules = {"actor": agent.policy, "critic": agent.critic, "target": agent.target}
        tensors = {
            f"{name}.{key}": value.clone()
            for name, module in modules.items()
            if isinstance(module, torch.nn.Module)
            for key, value in module.state_dict().items()
        }
        tensors["refused"] = torch.tensor(float(agent.refused))
        save_file(tensors, Path(sys.argv[1]) / f"{ranks.rank}-of-{ranks.count}.safetensors")


if __name__ == "__main__":
    main()
