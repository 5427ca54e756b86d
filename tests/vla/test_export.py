"""Exported artifacts give what LeRobot gives, from a raw observation to physical actions, and follow a swap of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from poco.artifact import Artifact
from poco.export.vla.cases import Inputs, Raw, inputs_of, raw_cases
from poco.export.vla.check import GraphPolicy, library_sample
from poco.export.vla.exporting import Prepared, prepare
from poco.export.vla.options import Progress
from poco.images import fitted, padding_of, resize_with_pad
from poco.specification import unscale
from poco.vla_numbers import actions, normalise, padded, physical_state, prompt_text
from vla.conftest import KINDS, Artifacts, Checkpoints
from vla.library import Library
from vla.tiny import CAMERAS, TASK, tiny_sizes
from vla.tiny_artifact import as_artifact, export, options_of

SILENT = Progress(lambda line: None)
PROMPTS = ("go", TASK, "pick up the red cube and put it into the box, then come back to the start")


def prepared(checkpoints: Checkpoints, kind: str) -> Prepared:
    made = checkpoints(kind)
    with tiny_sizes(made):
        return prepare(options_of(made, made.checkpoint.parent / "nowhere"), SILENT)


def graphs(artifact: Artifact, tensors: dict[str, npt.NDArray[np.generic]] | None = None) -> GraphPolicy:
    assert artifact.manifest.vla is not None
    schedule = artifact.manifest.vla.schedule
    return GraphPolicy(artifact.manifest.graphs, artifact.graphs, tensors or artifact.tensors, schedule)


@pytest.mark.parametrize("kind", KINDS)
def test_export_is_as_good_as_it_says(artifacts: Artifacts, kind: str) -> None:
    """Every case is within 1e-4 of the library, for three prompt lengths and each camera masked; each input moves the actions."""
    artifact = artifacts(kind)
    vla = artifact.manifest.vla
    assert vla is not None
    assert vla.type == kind
    assert vla.parity is not None
    assert len({case.prompt_tokens for case in vla.parity.cases}) >= 3
    assert {case.masked for case in vla.parity.cases} == {None, *(item.key for item in vla.cameras)}
    assert vla.parity.error <= 2e-5
    assert min(vla.parity.sensitivity.values()) >= 100 * vla.parity.error
    assert {"lerobot", "transformers", "torch"} <= set(vla.versions)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_observation_to_action_equals_the_library(
    artifacts: Artifacts, checkpoints: Checkpoints, kind: str
) -> None:
    """Frames of another size, a task and a physical state give the library's physical actions, all of its processors included."""
    artifact, library = artifacts(kind), Library(kind, checkpoints(kind).checkpoint, tiny_sizes(checkpoints(kind)))
    vla, told = artifact.manifest.vla, artifact.specification
    assert vla is not None
    policy, tokenizer = graphs(artifact), prepared(checkpoints, kind).tokenizer
    random = np.random.default_rng(5)
    for task in PROMPTS:
        frames = {f"observation.images.{name}": random.integers(0, 256, (48, 64, 3), np.uint8) for name in CAMERAS}
        observation = random.uniform(-1, 1, told.observation_size).astype(np.float32)
        noise = random.standard_normal((vla.chunk_length, vla.width), np.float32)
        state = physical_state(told, observation)
        seen = normalise(vla.state, state)
        tokens, mask = tokenizer.encode(prompt_text(vla, task, seen), vla.prompt.length)
        size = (vla.cameras[0].height, vla.cameras[0].width)
        pixels = np.empty((len(CAMERAS), 3, *size), np.float32)
        for item, out in zip(vla.cameras, pixels, strict=True):
            frame = frames[item.key]
            shape = (frame.shape[0], frame.shape[1])
            resize_with_pad(frame, *fitted(shape, size), *padding_of(shape, size, item.padding == "centred"), out)
        arrays = {
            "pixels": pixels,
            "image_mask": np.ones(len(CAMERAS), np.bool_),
            "tokens": tokens,
            "token_mask": mask,
            "state": padded(seen, vla.width),
            "noise": noise[None],
        }
        sample = policy.steps(Inputs(arrays, state))
        ours = actions(vla, told, sample, state)
        theirs = library.actions(state, frames, task, noise)
        spread = float(np.ptp(theirs))
        bounded = np.clip(theirs[vla.first_action :][: told.chunk_steps], *bounds(artifact))
        physical = unscale(told.action, ours)
        assert np.max(np.abs(physical - bounded)) <= 1e-4 * spread


def bounds(artifact: Artifact) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    fields = artifact.specification.action
    return np.concatenate([item.low for item in fields]), np.concatenate([item.high for item in fields])


@pytest.mark.parametrize("kind", KINDS)
def test_other_weights_of_the_expert_are_a_rebinding(artifacts: Artifacts, checkpoints: Checkpoints, kind: str) -> None:
    """The same graphs with perturbed trained tensors give what the library gives with these weights; the prefix does not change."""
    artifact, made = artifacts(kind), prepared(checkpoints, kind)
    torch.manual_seed(3)
    with torch.no_grad():
        state = made.policy.state_dict()
        for key in artifact.tensors:
            state[key].add_(0.05 * torch.randn_like(state[key]))
    tensors = as_artifact(artifact.manifest.graphs, state)
    inputs = one(made)
    expected = library_sample(made.adapter, made.policy, inputs)
    before, after = graphs(artifact), graphs(artifact, tensors)
    for sample in (after.steps(inputs), after.chunk(inputs)):
        assert np.max(np.abs(sample - expected)) <= 2e-5 * np.ptp(expected)
    assert np.max(np.abs(before.steps(inputs) - expected)) >= 1e-2 * np.ptp(expected)


def one(made: Prepared) -> Inputs:
    raw: Raw = raw_cases(made.vla, made.specification, made.sizes)[1]
    return inputs_of(raw, made.vla, made.specification, made.tokenizer)


def test_shifted_vision_positions_are_another_policy(checkpoints: Checkpoints) -> None:
    """The installed version numbers patches in raster order; asked for the shifted one, library and adapter give other actions."""
    made = checkpoints("smolvla")
    options = options_of(made, made.checkpoint.parent / "nowhere")
    with tiny_sizes(made):
        raster = prepare(replace(options, vision_positions="raster"), SILENT)
        shifted = prepare(replace(options, vision_positions="shifted"), SILENT)
    assert raster.vla.vision_positions.found == shifted.vla.vision_positions.found == "raster"
    samples = [library_sample(item.adapter, item.policy, one(item)) for item in (raster, shifted)]
    assert np.max(np.abs(samples[0] - samples[1])) > 4e-4, "far more than the error of the graphs"


def test_half_precision(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """In half precision the trained tensors have two bytes an element and the actions are within 1e-2 of the library's."""
    made = checkpoints("smolvla")
    artifact = export(made, replace(options_of(made, tmp_path / "half"), precision="fp16", steps=4))
    assert {str(tensor.dtype) for tensor in artifact.tensors.values()} == {"float16"}
    vla = artifact.manifest.vla
    assert vla is not None
    assert vla.parity is not None
    assert 1e-6 < vla.parity.error < 1e-2
    assert vla.schedule.steps == 4


def test_cameras_are_named_and_left_out(checkpoints: Checkpoints) -> None:
    """An image gets the camera that is given, one that the robot does not have is masked off and looked through by nobody."""
    made = checkpoints("pi0")
    with tiny_sizes(made):
        vla = prepare(
            replace(options_of(made, made.checkpoint.parent / "nowhere"), cameras=("near=front", "wrist=none")), SILENT
        ).vla
    assert [(item.key, item.camera) for item in vla.cameras] == [
        ("observation.images.near", "front"),
        ("observation.images.wrist", None),
    ]
    assert vla.cameras_used == ("front",)
