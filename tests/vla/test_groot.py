"""The action head of a tiny GR00T N1.7: its graphs give what LeRobot's own head gives, and what is not whole is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from poco.engines.build import build_engine
from poco.errors import PocoError
from poco.export.vla.cases import Inputs
from poco.export.vla.check import GraphPolicy
from poco.export.vla.groot_head import (
    MANIFEST,
    HeadManifest,
    HeadOptions,
    check_head,
    export_head,
    head_case,
    inputs_of,
)
from poco.export.vla.options import Progress
from poco.learner.vla.checkpoint import open_checkpoint
from poco.learner.vla.groot import HEAD, library_actions, noise_of, read_head, schedule
from poco.vla import Schedule
from vla.test_refusals import alter_json, alter_weights
from vla.tiny_artifact import as_artifact
from vla.tiny_groot import IMAGE_TOKEN, WIDTH, MadeGroot, make_groot

TOKENS = 12
SILENT = Progress(lambda line: None)
KEY = f"{HEAD}action_decoder.layer2.W"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeGroot:
    """Make base and checkpoint, once."""
    return make_groot(tmp_path_factory.mktemp("groot"))


def options_of(made: MadeGroot, out: Path) -> HeadOptions:
    return HeadOptions(made.checkpoint, made.base, out, TOKENS)


@pytest.fixture(scope="module")
def head(made: MadeGroot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the head, once."""
    out: Path = tmp_path_factory.mktemp("heads") / "head"
    export_head(options_of(made, out), SILENT)
    return out


def read(head: Path) -> HeadManifest:
    return msgspec.json.decode((head / MANIFEST).read_bytes(), type=HeadManifest)


def graphs(head: Path, plan: Schedule | None = None) -> GraphPolicy:
    manifest = read(head)
    payloads = {graph.name: (head / graph.file).read_bytes() for graph in manifest.graphs}
    return GraphPolicy(manifest.graphs, payloads, load_file(head / manifest.trained.file), plan or manifest.schedule)


def test_the_head_is_as_good_as_it_says(head: Path) -> None:
    """For three numbers of features it is within 1e-5 of the library's head, in one graph too; each input moves the actions."""
    manifest = read(head)
    assert manifest.embodiment == "new_embodiment"
    assert (manifest.schedule.steps, manifest.schedule.start, manifest.schedule.end) == (4, 0.0, 1.0)
    assert [case.prompt_tokens for case in manifest.parity.cases] == [12, 12, 8, 8, 4, 4]
    assert manifest.parity.error <= 1e-5
    assert set(manifest.parity.sensitivity) == {"features", "real", "image_tokens", "state"}
    assert min(manifest.parity.sensitivity.values()) >= 100 * manifest.parity.error


def test_features_of_the_librarys_own_backbone(made: MadeGroot, head: Path) -> None:
    """What LeRobot's backbone makes of an image and words gives, under our graphs, the actions of LeRobot's whole model."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.tensor([[9, 5, *[IMAGE_TOKEN] * 4, 6, 11, 12, 13]])
    told = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.rand(16, 3 * 2 * 16 * 16, generator=generator) * 2 - 1,
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
    }
    policy, _ = read_head(made.checkpoint, made.base)
    state = torch.rand(1, 1, WIDTH, generator=generator) * 2 - 1
    with torch.no_grad():
        seen = made.policy._groot_model.backbone(told)
    case = {
        "features": seen["backbone_features"],
        "real": seen["backbone_attention_mask"],
        "image_tokens": seen["image_mask"],
        "state": state,
    }
    expected = library_actions(policy, case, seed=7)[0].numpy()
    missing = TOKENS - ids.shape[1]
    arrays = {name: tensor.numpy() for name, tensor in case.items()}
    for name in ("features", "real", "image_tokens"):
        arrays[name] = np.pad(arrays[name], [(0, 0), (0, missing)] + [(0, 0)] * (arrays[name].ndim - 2))
    arrays["noise"] = noise_of(policy, seed=7).numpy()
    given = Inputs(arrays, state.numpy())
    for sample in (graphs(head).steps(given), graphs(head).chunk(given)):
        assert np.max(np.abs(sample - expected)) <= 1e-5 * np.ptp(expected)


def test_other_weights_are_a_rebinding(made: MadeGroot, head: Path) -> None:
    """The same graphs with perturbed trained tensors are the library's head with these weights."""
    policy, _ = read_head(made.checkpoint, made.base)
    manifest, torch_state = read(head), policy.state_dict()
    torch.manual_seed(3)
    for key in load_file(head / manifest.trained.file):
        torch_state[key].add_(0.02 * torch.randn_like(torch_state[key]))
    tensors = as_artifact(manifest.graphs, torch_state)
    payloads = {graph.name: (head / graph.file).read_bytes() for graph in manifest.graphs}
    parity = check_head(policy, GraphPolicy(manifest.graphs, payloads, tensors, manifest.schedule), TOKENS)
    assert parity.error <= 1e-5
    with pytest.raises(PocoError, match="differ from the library"):
        check_head(policy, graphs(head), TOKENS)


def test_as_many_steps_as_are_asked_for(made: MadeGroot, head: Path) -> None:
    """The step graph gives the library's seven steps too, whose times lie between buckets."""
    policy, _ = read_head(made.checkpoint, made.base, steps=7)
    case = head_case(policy, TOKENS, seed=1)
    expected = library_actions(policy, case, seed=1)[0].numpy()
    sample = graphs(head, schedule(policy)).steps(inputs_of(case))
    assert np.max(np.abs(sample - expected)) <= 1e-5 * np.ptp(expected)
    assert np.max(np.abs(graphs(head).steps(inputs_of(case)) - expected)) >= 1e-3 * np.ptp(expected)


def test_every_graph_builds_as_an_engine(head: Path) -> None:
    """TensorRT-RTX takes prefix, step and all steps in one, weights as inputs."""
    for graph in read(head).graphs:
        engine, _ = build_engine("tensorrt-rtx", (head / graph.file).read_bytes(), graph.name)
        assert engine


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing key": (alter_weights(lambda weights: weights.pop(KEY)), "lack _groot_model.action_head.action_decoder"),
    "extra key": (
        alter_weights(lambda weights: weights.update({f"{HEAD}odd": torch.ones(2)})),
        "hold _groot_model.action_head.odd",
    ),
    "not a number": (alter_weights(lambda weights: weights[KEY].fill_(float("nan"))), "not finite"),
    "wrong shape": (alter_weights(lambda weights: weights.update({KEY: weights[KEY][:-1].clone()})), "the policy's is"),
    "no weights": (lambda checkpoint: (checkpoint / "model.safetensors").unlink(), "has no weights"),
    "no embodiment": (
        alter_json("policy_preprocessor.json", lambda document: document["steps"].clear()),
        "no number for the embodiment",
    ),
    "another type": (alter_json("config.json", lambda document: document.update(type="pi0")), "of the type 'pi0'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_checkpoints_are_refused(made: MadeGroot, tmp_path: Path, name: str) -> None:
    """Each damage is named in one line, and nothing is written."""
    alter, sentence = BROKEN[name]
    broken = replace(made, checkpoint=tmp_path / "checkpoint")
    shutil.copytree(made.checkpoint, broken.checkpoint)
    alter(broken.checkpoint)
    refused(options_of(broken, tmp_path / "out"), sentence)


def test_another_base_is_refused(made: MadeGroot, tmp_path: Path) -> None:
    """Without the base nobody knows the sizes; a base of other sizes or another model is not this checkpoint's."""
    options = options_of(made, tmp_path / "out")
    refused(replace(options, base=tmp_path), "--base .* holds no config.json")
    for key, value, sentence in (
        ("model_type", "GR00T_N1_5", "is a 'GR00T_N1_5'"),
        ("hidden_size", 16, "the policy's is a float"),
        ("use_alternate_vl_dit", False, "attend to padding"),
    ):
        base = tmp_path / key
        shutil.copytree(made.base, base)
        file = base / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
        refused(replace(options, base=base), sentence)


def refused(options: HeadOptions, sentence: str) -> None:
    """Assert one refusal in one line, and that nothing was written."""
    with pytest.raises(PocoError, match=sentence) as caught:
        export_head(options, SILENT)
    assert "\n" not in str(caught.value)
    assert not options.out.exists()


def test_export_of_a_whole_groot_names_the_command_for_its_head(made: MadeGroot) -> None:
    """`poco-export vla` takes no GR00T, and says what does."""
    with pytest.raises(PocoError, match="of GR00T there is poco-export groot-head"):
        open_checkpoint(made.checkpoint)
