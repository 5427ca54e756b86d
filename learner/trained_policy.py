"""What a run, a checkpoint and an evaluation know of a policy, besides the agent's three calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from poco.errors import ArtifactError
from poco.learner.chunk_policy import ChunkPolicy
from poco.learner.encoder import Encoder
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.vla.network import VlaNetwork
from poco.learner.vla.opening import open_vla
from poco.learner.vla.policy import VlaPolicy
from poco.specification import Specification


class TrainedPolicy(ChunkPolicy, Protocol):
    """A policy whose trained tensors have names; a deep copy shares what does not learn."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the trained tensors by their names; they change as the policy does."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Any], /) -> Any:
        """Take over the trained `tensors`; raises RuntimeError if they are not exactly its own."""
        ...

    def to(self, device: torch.device, /) -> Any:
        """Move the policy to `device`."""
        ...

    def cpu(self) -> Any:
        """Move the policy to the CPU; return it."""
        ...

    def __call__(self, observation: Tensor, noise: Tensor, /) -> Tensor:
        """Return chunks [B, T, A] for `observation` [B, O] and `noise`."""
        ...


def flow_policy(policy: TrainedPolicy) -> FlowPolicy:
    """Return `policy`, if it is a FlowPolicy; raises ArtifactError if it is the expert of a vision-language-action policy."""
    if isinstance(policy, FlowPolicy):
        return policy
    raise ArtifactError(
        "it is the expert of a vision-language-action policy, no flow policy: export it with `poco-export learned`"
    )


def architecture_of(policy: TrainedPolicy) -> Architecture | None:
    """Return the architecture of `policy`, none for one that is built from a checkpoint of another library."""
    return policy.architecture if isinstance(policy, FlowPolicy) else None


def network_of(policy: TrainedPolicy) -> VlaNetwork | None:
    """Return what `policy` is built from, if it is a vision-language-action policy."""
    return policy.network if isinstance(policy, VlaPolicy) else None


def encoder_before(policy: TrainedPolicy) -> Encoder | None:
    """Return what makes the observations of `policy` from images, if it is a vision-language-action policy that sees."""
    return policy.eyes if isinstance(policy, VlaPolicy) else None


def build(specification: Specification, architecture: Architecture | None, network: VlaNetwork | None) -> TrainedPolicy:
    """Return a fresh policy of `architecture`, or that of `network` as its checkpoint has it; exactly one must be given.

    Raises ArtifactError or UsageError if the checkpoint that `network` names is unsound, another one, or cannot be read here.
    """
    if (architecture is None) == (network is None):
        raise ArtifactError("a policy has either an architecture or a network of its own kind: train it again")
    if network is not None:
        policy = open_vla(network, specification.told)
        if policy.specification != specification:
            raise ArtifactError(
                f"the policy sees through the cameras {', '.join(policy.specification.cameras) or 'none'}, its specification names "
                f"{', '.join(specification.cameras) or 'none'} or another vision part: adopt it again"
            )
        return policy
    assert architecture is not None
    return FlowPolicy(architecture)
