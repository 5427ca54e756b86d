"""From networks to an actor: one plain sample of the policy, or the best of several by the critic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from poco.learner.agent import Agent
from poco.learner.rollouts import Actor, Floats
from poco.learner.trained_policy import TrainedPolicy
from poco.noise import NoiseSource
from poco.specification import Specification, scale


def chunk_actor(
    policy: TrainedPolicy, agent: Agent | None, specification: Specification, best_of: int, seed: int
) -> Actor:
    """Return an actor that draws `best_of` chunks and executes the one the critic values most; 1, or no agent: a plain sample.

    The critic is told the last delay_steps of the previous chunk, or no motion at the start of an episode. An actor plays one
    episode at a time.
    """
    source, delay, execute = NoiseSource(seed), specification.delay_steps, specification.execute_steps
    one = policy.noise_shape or (specification.chunk_steps, specification.action_size)
    shape = (1 if agent is None else best_of, *one)
    device = next(policy.parameters()).device
    still = np.tile(scale(specification.action, np.zeros(specification.action_size)), (delay, 1)).astype(np.float32)
    pending: npt.NDArray[np.float32] = still

    def act(observation: Floats, episode: int, chunk: int) -> Floats:
        nonlocal pending
        noise = torch.from_numpy(source.sample(episode, chunk, shape)).to(device)
        seen = torch.from_numpy(observation)[None].to(device)
        with torch.inference_mode():
            if agent is None or best_of == 1:
                actions: Floats = policy(seen, noise)[0].numpy(force=True)
            else:
                before = torch.from_numpy(still if chunk == 0 else pending)[None].to(device)
                step = torch.tensor([float(chunk * execute)], device=device)
                actions = agent.best(seen, step, before, noise[None])[0].numpy(force=True)
        pending = actions[execute - delay : execute]
        return actions

    return act
