"""What was learned reaches the robot on the graphs that are there: the expert is new, prefix and rules are those of the base."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from poco.artifact import MANIFEST, Artifact
from poco.errors import ArtifactError
from poco.export.vla.learned import export_learned
from poco.learner.checkpoint import Checkpoint, write_checkpoint
from poco.learner.vla.checkpoint import WEIGHTS
from poco.learner.vla.opening import open_vla
from poco.learner.vla.policy import VlaPolicy
from poco.runtime.vla_session import MISSING, VlaSession
from poco.vla import PolicyType, Vla
from vla import tiny
from vla.conftest import KINDS, Artifacts, Checkpoints
from vla.learning_policies import drawn, network_of
from vla.tiny import tiny_sizes


def learn(policy: VlaPolicy) -> None:
    """Take a few gradient steps that move every tensor of the expert."""
    given = drawn(policy, 4)
    optimizer = torch.optim.Adam(list(policy.parameters()), lr=3e-3)
    for _ in range(5):
        optimizer.zero_grad()
        context = policy.encode(given["observation"])
        loss = policy.loss(context, given["chunk"], given["noise"], given["time"], given["valid"]).mean()
        torch.autograd.backward(loss)
        optimizer.step()


def vla_of(artifact: Artifact) -> Vla:
    """The rules of an artifact that has some."""
    assert artifact.manifest.vla is not None
    return artifact.manifest.vla


def chunk_of(artifact: Artifact, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The chunk that the robot makes of it without a picture."""
    session = VlaSession(artifact, tiny.TASK)
    return session.run(observation, noise, [MISSING] * len(artifact.cameras))


@pytest.mark.parametrize("kind", KINDS)
def test_the_robot_does_what_was_learned(
    kind: PolicyType, artifacts: Artifacts, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    """Learner and robot agree to 1e-4 on the trained expert, which moves the arm otherwise; nothing else changed."""
    made, base = checkpoints(kind), artifacts(kind)
    with tiny_sizes(made):
        policy = open_vla(network_of(made, kind), tiny.specification())
        learn(policy)
        write_checkpoint(tmp_path / "learned", Checkpoint(tiny.specification(), policy, {"success": 0.6}))
        artifact = export_learned(tmp_path / "learned", base.path, tmp_path / "artifact")
    manifest = artifact.manifest
    assert (manifest.generation, manifest.parent) == (base.manifest.generation + 1, base.manifest.generation)
    assert manifest.graph_hash == base.manifest.graph_hash
    assert manifest.metrics["success"] == 0.6
    assert {name for name, one in artifact.tensors.items() if not np.array_equal(one, base.tensors[name])} == set(
        policy.state_dict()
    )
    draw = np.random.default_rng(1)
    observation = draw.uniform(-1, 1, tiny.specification().observation_size).astype(np.float32)
    noise = draw.standard_normal(policy.noise_shape, np.float32)
    with torch.inference_mode():
        expected = policy(torch.from_numpy(observation)[None], torch.from_numpy(noise)[None])[0].numpy()
    np.testing.assert_allclose(chunk_of(artifact, observation, noise), expected, atol=1e-4, rtol=0.0)
    assert np.abs(chunk_of(base, observation, noise) - expected).max() > 0.01


def test_an_expert_learned_beside_another_vision_tower_is_refused(
    artifacts: Artifacts, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    """Without pictures both give the same actions, so only the hash of the frozen weights tells them apart: nothing is written."""
    made = checkpoints("smolvla")
    other = replace(made, checkpoint=tmp_path / "other")
    shutil.copytree(made.checkpoint, other.checkpoint)
    weights = load_file(other.checkpoint / WEIGHTS)
    seeing = [name for name in weights if "vision_model" in name]
    save_file(weights | {name: weights[name] * 1.5 for name in seeing}, other.checkpoint / WEIGHTS)
    with tiny_sizes(other):
        policy = open_vla(network_of(other, "smolvla"), tiny.specification())
        write_checkpoint(tmp_path / "learned", Checkpoint(tiny.specification(), policy, {}))
        with pytest.raises(ArtifactError, match="beside other frozen weights"):
            export_learned(tmp_path / "learned", artifacts("smolvla").path, tmp_path / "artifact")
    assert len(seeing) > 10
    assert not (tmp_path / "artifact").exists()


def test_an_artifact_that_does_not_do_what_was_learned_is_refused(
    artifacts: Artifacts, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    """Fewer steps or another padding of prompts from the same checkpoint, another type of policy: nothing is written."""
    made, prompt = checkpoints("pi0"), msgspec.to_builtins(vla_of(artifacts("pi0")).prompt)
    with tiny_sizes(made):
        policy = open_vla(network_of(made, "pi0"), tiny.specification())
        write_checkpoint(tmp_path / "learned", Checkpoint(tiny.specification(), policy, {}))
        for kind, rule, value, sentence in (
            ("pi0", "schedule", {"steps": 3, "start": 1.0, "end": 0.0}, "steps, prompt or statistics"),
            ("pi0", "prompt", {**prompt, "pad_id": 7}, "the tokenizer in"),
            ("smolvla", "frozen_sha256", policy.network.frozen_sha256, "tensors that were trained"),
        ):
            base = tmp_path / rule
            shutil.copytree(artifacts(kind).path, base)
            manifest = json.loads((base / MANIFEST).read_bytes())
            manifest["vla"][rule] = value
            (base / MANIFEST).write_text(json.dumps(manifest))
            with pytest.raises(ArtifactError, match=sentence):
                export_learned(tmp_path / "learned", base, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
