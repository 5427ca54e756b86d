"""Checkpoints that are not whole are refused with one sentence, and nothing is written. The library would run most of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from poco.errors import PocoError
from poco.export.vla.options import VlaOptions
from vla.conftest import Checkpoints
from vla.tiny import Made, specification
from vla.tiny_artifact import export, options_of

WEIGHTS = "model.safetensors"
KEY = "model.action_out_proj.weight"
Weights = dict[str, torch.Tensor]


def alter_weights(change: Callable[[Weights], object]) -> Callable[[Path], None]:
    def alter(checkpoint: Path) -> None:
        weights = load_file(checkpoint / WEIGHTS)
        change(weights)
        save_file(weights, checkpoint / WEIGHTS)

    return alter


def alter_json(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def alter(checkpoint: Path) -> None:
        document = json.loads((checkpoint / name).read_text())
        change(document)
        (checkpoint / name).write_text(json.dumps(document))

    return alter


def without_statistics(checkpoint: Path) -> None:
    (file,) = checkpoint.glob("policy_preprocessor_step_*_normalizer_processor.safetensors")
    tensors = load_file(file)
    save_file({key: value for key, value in tensors.items() if key != "observation.state.std"}, file)


def without_processors(checkpoint: Path) -> None:
    for file in checkpoint.glob("policy_*"):
        file.unlink()


def with_nan(weights: Weights) -> None:
    weights[KEY][0, 0] = float("nan")


PREPROCESSOR = "policy_preprocessor.json"


def alter_step(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    """Change the config of the step `name` before the policy."""
    return alter_json(
        PREPROCESSOR,
        lambda document: change(step_of(document, name)["config"]),
    )


def step_of(document: dict, name: str) -> dict:  # type: ignore[type-arg]
    """The step `name` of a processor."""
    found: dict = next(one for one in document["steps"] if one["registry_name"] == name)  # type: ignore[type-arg]
    return found


def with_normalised_images(checkpoint: Path) -> None:
    alter_step("normalizer_processor", lambda config: config["norm_map"].update(VISUAL="MEAN_STD"))(checkpoint)
    (file,) = checkpoint.glob("policy_preprocessor_step_*_normalizer_processor.safetensors")
    images = {f"observation.images.near.{name}": torch.full((3, 1, 1), 0.5) for name in ("mean", "std")}
    save_file(load_file(file) | images, file)


def with_an_adapter(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).rename(checkpoint / "adapter_model.safetensors")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing key": (alter_weights(lambda weights: weights.pop(KEY)), f"lack {KEY}"),
    "extra key": (alter_weights(lambda weights: weights.update({"model.odd": torch.ones(2)})), "hold model.odd"),
    "no weights": (lambda checkpoint: (checkpoint / WEIGHTS).unlink(), "has no weights"),
    "not a number": (alter_weights(with_nan), f"tensor {KEY} .* not finite"),
    "wrong shape": (
        alter_weights(lambda weights: weights.update({KEY: weights[KEY][:-1].clone()})),
        rf"tensor {KEY} .* is torch.float32 \[31, 24\], the policy's is a float \[32, 24\]",
    ),
    "missing statistics": (without_statistics, "observation.state by MEAN_STD but has no std"),
    "unknown type": (alter_json("config.json", lambda document: document.update(type="rt9")), "of the type 'rt9'"),
    "old format": (
        alter_weights(lambda weights: weights.update({"normalize_inputs.buffer_state.mean": torch.ones(2)})),
        "before LeRobot's processors",
    ),
    "no processors": (without_processors, "before LeRobot's processors"),
    "weights of whole numbers": (
        alter_weights(lambda weights: weights.update({KEY: weights[KEY].to(torch.int32)})),
        f"tensor {KEY} .* is torch.int32",
    ),
    "unknown step": (
        alter_json("policy_preprocessor.json", lambda document: document["steps"].append({"registry_name": "crop"})),
        "step 'crop'",
    ),
    "images normalised": (with_normalised_images, "normalises observation.images.near by MEAN_STD"),
    "state left alone": (
        alter_step("normalizer_processor", lambda config: config.update(normalize_observation_keys=[])),
        "normalises the observations none only",
    ),
    "no new line": (
        alter_json(
            PREPROCESSOR, lambda document: document["steps"].remove(step_of(document, "smolvla_new_line_processor"))
        ),
        "in this order, a new line, tokenizer_processor",
    ),
    "steps in another order": (
        alter_json(PREPROCESSOR, lambda document: document["steps"].reverse()),
        "in this order, a new line, tokenizer_processor",
    ),
    "no length of prompts": (
        alter_step("tokenizer_processor", lambda config: config.pop("max_length")),
        "says no max_length of prompts",
    ),
    "an adapter": (with_an_adapter, "merge the adapter"),
    "images that are no squares": (
        alter_json("config.json", lambda document: document.update(resize_imgs_with_padding=[64, 32])),
        "resizes images to 64 x 32",
    ),
    "two widths": (
        alter_json("config.json", lambda document: document.update(max_action_dim=16)),
        "max_state_dim, max_action_dim|tensor .* the policy's is",
    ),
    "unknown config": (alter_json("config.json", lambda document: document.update(depth=3)), "cannot read the config"),
    "truncated weights": (
        lambda checkpoint: (checkpoint / WEIGHTS).write_bytes((checkpoint / WEIGHTS).read_bytes()[:-100]),
        "not readable",
    ),
}


def refused(made: Made, options: VlaOptions, sentence: str) -> None:
    """Assert one refusal in one line, and that nothing was written."""
    with pytest.raises(PocoError, match=sentence) as caught:
        export(made, options)
    assert "\n" not in str(caught.value)
    assert not options.out.exists()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_checkpoints_are_refused(checkpoints: Checkpoints, tmp_path: Path, name: str) -> None:
    """Each damage is named together with what to do."""
    alter, sentence = BROKEN[name]
    sound = checkpoints("smolvla")
    made = replace(sound, checkpoint=tmp_path / "checkpoint")
    shutil.copytree(sound.checkpoint, made.checkpoint)
    alter(made.checkpoint)
    refused(made, options_of(made, tmp_path / "out"), sentence)


def test_no_tokenizer_is_refused(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """No checkpoint holds a tokenizer, so one must be given; a folder without one is none."""
    made = checkpoints("smolvla")
    options = options_of(made, tmp_path / "out")
    refused(made, replace(options, tokenizer=None), "--tokenizer is not given")
    refused(made, replace(options, tokenizer=tmp_path), "holds no tokenizer.json")


def test_other_wrong_wishes_are_refused(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """No VLM config, a specification of other widths or too many steps, cameras that are not there, a folder in use."""
    made = checkpoints("smolvla")
    options = options_of(made, tmp_path / "out")
    refused(made, replace(options, vlm=None), "--vlm")
    refused(made, replace(options, cameras=("top=front",)), "images near, wrist")
    refused(made, replace(options, cameras=("near=front", "wrist=front")), "one of its own")
    source = options.specification.read_text()
    narrow, long = tmp_path / "narrow.yaml", tmp_path / "long.yaml"
    dropped = next(line for line in source.splitlines() if "lead_yaw" in line)
    narrow.write_text(source.replace(dropped + "\n", ""))
    long.write_text(source.replace("chunk_steps: 8", "chunk_steps: 10"))
    width = specification().observation_size
    refused(made, replace(options, specification=narrow), f"has {width - 1} elements, .* has {width}")
    refused(made, replace(options, specification=long), "write a smaller chunk_steps")
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.txt").write_text("years of work")
    with pytest.raises(PocoError, match=r"thesis\.txt"):
        export(made, replace(options, out=used))
    assert [item.name for item in used.iterdir()] == ["thesis.txt"]
