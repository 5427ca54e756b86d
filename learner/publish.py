"""From the actor to a signed generation: the policy of an artifact built again, and what an update must show before it leaves."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import load
from torch import Tensor

from poco.artifact import MAX_WEIGHT, Artifact, Manifest
from poco.errors import ArtifactError
from poco.learner.checkpoint import read_checkpoint
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.trained_policy import TrainedPolicy
from poco.learner.vla.golden import golden_of as vla_golden_of
from poco.learner.vla.layout import in_artifact, in_network
from poco.learner.vla.policy import VlaPolicy
from poco.learner.vla.sameness import check_same
from poco.offer import Offer
from poco.succession import Floats, Successor, next_generation
from poco.vla import Vla

Tensors = dict[str, Tensor]

SHIFT_MAX = 0.5
"""Root mean square change (action units) of the golden chunks against the parent's beyond which an update is no small step."""


class Withheld(ArtifactError):
    """An update that does not leave the learner; one sentence why."""


def policy_of(artifact: Artifact) -> FlowPolicy:
    """Return the policy of `artifact` as a network with its weights; raises ArtifactError if it cannot be trained."""
    network = artifact.manifest.network
    if network is None:
        raise ArtifactError(
            f"artifact {artifact.path} does not say what network it was made from: export it from a checkpoint of poco-learner"
        )
    try:
        policy = FlowPolicy(msgspec.convert(network, Architecture))
        policy.load_state_dict(_weights(artifact.tensors, artifact.manifest))
    except (msgspec.ValidationError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"artifact {artifact.path} has tensors of another network than it says ({reason})"
        ) from error
    _check_golden(policy, artifact)
    return policy


def vla_policy_of(artifact: Artifact, vla: Vla, adopted: Path) -> VlaPolicy:
    """Return the vision-language-action policy of `artifact` with the frozen part that the checkpoint `adopted` names.

    Raises ArtifactError if they are not of one policy, or compute something else.
    """
    policy = check_same(read_checkpoint(adopted).policy, adopted, artifact, vla)
    if policy.eyes is None and vla.cameras_used:
        raise ArtifactError(
            f"checkpoint {adopted} sees nothing, robots with {artifact.path} see through {', '.join(vla.cameras_used)}: adopt it "
            "with --cameras"
        )
    try:
        policy.load_state_dict(_weights(artifact.tensors, artifact.manifest))
    except RuntimeError as error:
        raise ArtifactError(
            f"artifact {artifact.path} has another expert than checkpoint {adopted} ({error})"
        ) from error
    _check_golden(policy, artifact)
    return policy


@dataclass
class Publisher:
    """Makes signed generations of one artifact; the learner process owns it.

    `parent` is the manifest of the newest generation, from which the next one descends; `actors` holds the weights of the
    artifact's generation and of every later one that is known, until somebody forgets them.
    """

    artifact: Artifact
    key: Ed25519PrivateKey
    lifetime_s: int

    def __post_init__(self) -> None:
        if not self.artifact.manifest.swappable:
            raise ArtifactError(
                f"artifact {self.artifact.path} has its weights inside the graph: export it with weights as inputs to improve it"
            )
        self.parent: Manifest = self.artifact.manifest
        self.actors: dict[int, Tensors] = {self.parent.generation: _weights(self.artifact.tensors, self.parent)}
        self._chunk: Floats = self.artifact.golden["chunk"].astype(np.float32)

    def go_on(self, newest: Offer) -> None:
        """Let the next generation descend from `newest`, which this learner has published before.

        Raises ArtifactError if it is one of another policy.
        """
        manifest = msgspec.json.decode(newest.manifest, type=Manifest)
        ours = self.artifact.manifest
        if (manifest.graph_hash, manifest.specification_hash) != (ours.graph_hash, ours.specification_hash):
            raise ArtifactError(
                f"generation {manifest.generation} of this run has another graph or specification than {self.artifact.path}: "
                "go on with the artifact that the run began with"
            )
        by_role = {item.role: load(newest.files[item.file]) for item in manifest.tensors if item.role != "frozen"}
        self.parent, self._chunk = manifest, by_role["golden"]["chunk"].astype(np.float32)
        self.actors[manifest.generation] = _weights(by_role["trained"], manifest)

    def publish(
        self,
        policy: TrainedPolicy,
        floor: int,
        now_unix_s: float,
        metrics: dict[str, float],
        *,
        restored: bool = False,
    ) -> Offer:
        """Return `policy` as the generation after max(own, `floor` of every robot), signed.

        Raises Withheld for weights that are not finite or too large, and for golden chunks that are not finite or, unless `policy`
        is an earlier one `restored`, have moved by more than SHIFT_MAX since the parent.
        """
        trained = in_artifact(
            {key: value.numpy(force=True) for key, value in policy.state_dict().items()}, self.artifact
        )
        for key, tensor in trained.items():
            largest = float(np.abs(tensor).max(initial=0.0))
            if not largest <= MAX_WEIGHT:
                raise Withheld(
                    f"tensor {key} has a value of magnitude {largest}, the limit is {MAX_WEIGHT:g}: not published"
                )
        golden = golden_of(policy, self.artifact)
        chunk = golden["chunk"].astype(np.float32)
        shift = float(np.sqrt(np.mean((chunk - self._chunk) ** 2)))
        if not math.isfinite(shift) or (shift > SHIFT_MAX and not restored):
            raise Withheld(
                f"the golden chunks moved by {shift:.2f} since generation {self.parent.generation}, the limit is {SHIFT_MAX}: "
                "not published; if this goes on, publish more often or lower the learning rate"
            )
        successor = Successor(
            trained=trained,
            golden={**self.artifact.golden, **golden},
            generation=max(self.parent.generation, floor) + 1,
            expires_unix_s=math.ceil(now_unix_s) + self.lifetime_s,
            metrics={**metrics, "golden_shift": shift},
        )
        offer = next_generation(self.parent, successor, self.key)
        self.parent = msgspec.json.decode(offer.manifest, type=Manifest)
        self._chunk = chunk
        self.actors[self.parent.generation] = _weights(trained, self.parent)
        return offer


def _weights(tensors: Mapping[str, npt.NDArray[np.generic]], manifest: Manifest) -> Tensors:
    return {key: torch.from_numpy(tensor) for key, tensor in in_network(tensors, manifest).items()}


@torch.inference_mode()
def chunks_of(policy: TrainedPolicy, observation: Floats, noise: Floats) -> Floats:
    """Return the chunks [N, T, A] of `policy` for `observation` [N, O] and `noise` [N, T, A], computed on the CPU as robots do."""
    chunks: Floats = copy.deepcopy(policy).cpu()(torch.from_numpy(observation), torch.from_numpy(noise)).numpy()
    return chunks


def golden_of(policy: TrainedPolicy, artifact: Artifact) -> dict[str, npt.NDArray[np.generic]]:
    """Return what `policy` makes of the golden cases of `artifact`: their chunks [N, T, A], and a VLA's whole samples."""
    golden, vla = artifact.golden, artifact.manifest.vla
    if isinstance(policy, VlaPolicy) and vla is not None:
        return vla_golden_of(policy, golden, vla, artifact.specification)
    observation, noise = (golden[name].astype(np.float32) for name in ("observation", "noise"))
    return {"chunk": chunks_of(policy, observation, noise)}


def _check_golden(policy: TrainedPolicy, artifact: Artifact) -> None:
    made, tolerance = golden_of(policy, artifact), artifact.manifest.golden_tolerance
    errors = [np.max(np.abs(one - artifact.golden[name].astype(np.float32))) for name, one in made.items()]
    error = float(np.max(errors))
    if not error <= tolerance:
        raise ArtifactError(
            f"artifact {artifact.path}: the network built from it differs from its golden chunks by {error:.2e}, the tolerance "
            f"is {tolerance:.0e}: export it again"
        )
