"""Networks, target and optimizer of a training run, made from what the run is and filled from its states."""

from __future__ import annotations

import copy

import torch

from poco.errors import ArtifactError
from poco.learner import training_state
from poco.learner.agent import Agent
from poco.learner.critic import ChunkCritic, CriticArchitecture
from poco.learner.fast_flow import FastFlow
from poco.learner.image_policy import ImageEncoder
from poco.learner.networks import FlowPolicy
from poco.learner.ranks import ALONE, Ranks
from poco.learner.remaining import Remaining
from poco.learner.trained_policy import TrainedPolicy, build
from poco.learner.training_state import Identity, Tensors, TrainingState

ENCODER = "encoder."
"""What the names of the encoder's tensors begin with in a state."""

CPU = torch.device("cpu")

AVERAGE = "average."
"""What the names of the averaged actor's tensors begin with in a state."""


def assemble(
    identity: Identity,
    bf16_sampling: bool = False,
    threads: int = 1,
    device: torch.device = CPU,
    ranks: Ranks = ALONE,
    start: TrainedPolicy | None = None,
) -> tuple[TrainedPolicy, Agent]:
    """Return a fresh policy, or a copy of `start`, and its agent with fresh critics on `device`; the same for the same identity.

    With `bf16_sampling` the agent draws its candidates in bfloat16; `threads` share them out, `ranks` each batch. Raises what
    building a vision-language-action policy raises.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(identity.seed)
        policy = (
            build(identity.specification, identity.architecture, identity.network)
            if start is None
            else copy.deepcopy(start)
        )
        policy.to(device)
        settings = identity.settings.agent
        architecture = CriticArchitecture.of(
            identity.specification,
            settings.critic_hidden_sizes,
            settings.critic_heads,
            settings.critic_loss,
            clock=settings.critic_clock_steps > 0,
            more=_critic_more(policy, identity, device),
        )
        remaining = Remaining(identity.specification) if settings.critic_reads == "remaining" else None
        critic = ChunkCritic(architecture, remaining)
    agent = Agent(
        FastFlow(policy, bf16_sampling) if isinstance(policy, FlowPolicy) else policy,
        critic.to(device),
        settings,
        identity.specification,
        threads,
        ranks,
        fixed_shapes=device.type != "cpu" and isinstance(policy, FlowPolicy),
    )
    return policy, agent


def _critic_more(policy: TrainedPolicy, identity: Identity, device: torch.device) -> int:
    """Return how many numbers a critic reads besides the observation."""
    size = identity.specification.observation_size
    return policy.for_critic(torch.zeros(1, size, device=device)).shape[1] - size


def tensors_of(policy: TrainedPolicy, agent: Agent) -> Tensors:
    """Return everything of policy, critics and optimizer that a state must hold."""
    tensors = training_state.optimizer_tensors(agent.optimizer)
    for prefix, module in _modules(policy, agent).items():
        tensors |= training_state.prefixed(prefix, module.state_dict())
    return tensors


def fill(policy: TrainedPolicy, agent: Agent, state: TrainingState) -> None:
    """Put weights, moments and the count of refused updates of `state` back; raises ArtifactError if they do not fit."""
    try:
        for prefix, module in _modules(policy, agent).items():
            module.load_state_dict(training_state.under(prefix, state.tensors))
        training_state.restore_optimizer(agent.optimizer, state.tensors)
    except (RuntimeError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"the checkpoint of the run does not hold what it needs ({str(error).splitlines()[0]}): "
            "remove the newest file of its states to resume from the one before"
        ) from error
    agent.refused = state.progress.refused


def fill_average(acting: TrainedPolicy, state: TrainingState) -> None:
    """Put the weights that act after `state` into `acting`: the average of the actor, or the actor where there is none."""
    acting.load_state_dict(
        training_state.under(AVERAGE, state.tensors) or training_state.under("actor.", state.tensors)
    )


def encoder_of(state: TrainingState) -> ImageEncoder | None:
    """Return what encodes images for the policy of `state`, none if it does not see; raises ArtifactError if it is not in it."""
    architecture = state.identity.encoder
    if architecture is None:
        return None
    encoder, tensors = ImageEncoder(architecture), training_state.under(ENCODER, state.tensors)
    expected = {name: tensor.shape for name, tensor in encoder.weights().items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise ArtifactError("the checkpoint of the run does not hold its encoder of images: start a new run")
    encoder.load_state_dict(tensors, strict=False)
    return encoder.freeze()


def forget_moments(policy: TrainedPolicy, agent: Agent) -> None:
    """Make the optimizer treat the weights of `policy` as if it had never stepped them; its moments stay where they are."""
    for parameter in policy.parameters():
        for moment in agent.optimizer.state.get(parameter, {}).values():
            moment.zero_()


def _modules(policy: TrainedPolicy, agent: Agent) -> dict[str, TrainedPolicy | torch.nn.Module]:
    return {"actor.": policy, "critic.": agent.critic, "target.": agent.target}


def equal(tensors: Tensors, others: Tensors) -> bool:
    """Tell whether all of `tensors` are those of `others`, on whichever devices."""
    return all(torch.equal(tensor, others[key].to(tensor.device)) for key, tensor in tensors.items())
