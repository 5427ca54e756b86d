"""A checkpoint comes back exactly or is refused with one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from poco.errors import ArtifactError
from poco.learner.checkpoint import FILE, Checkpoint, read_checkpoint, write_checkpoint
from poco.learner.encoder import with_features
from poco.learner.image_policy import EncoderArchitecture, ImageEncoder
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.trained_policy import flow_policy
from poco.specification import Specification

Document = dict[str, object]
Arrays = dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]


@pytest.fixture
def folder(checkpoint_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "checkpoint"))


def rewrite(folder: Path, change: Callable[[Document, Arrays], None]) -> None:
    """Read header and tensors without any check, let `change` damage them, write them back."""
    with safe_open(folder / FILE, framework="numpy") as file:
        header = json.loads(file.metadata()["poco"])
        arrays = {key: file.get_tensor(key).copy() for key in file.keys()}  # noqa: SIM118
    change(header, arrays)
    save_file(arrays, folder / FILE, metadata={"poco": json.dumps(header)})


def test_round_trip_is_exact(folder: Path, tmp_path: Path) -> None:
    """Tensors, specification, architecture and metrics survive writing and reading; nothing is left beside them."""
    first = read_checkpoint(folder)
    write_checkpoint(tmp_path / "again", first)
    second = read_checkpoint(tmp_path / "again")
    assert (second.specification, second.metrics) == (first.specification, {"success_easy": 0.875})
    assert flow_policy(second.policy).architecture == flow_policy(first.policy).architecture
    for key, value in first.policy.state_dict().items():
        assert torch.equal(value, second.policy.state_dict()[key]), key
    assert [item.name for item in (tmp_path / "again").iterdir()] == [FILE]


def test_rewriting_replaces_metrics(folder: Path) -> None:
    """Writing over a checkpoint gives the new metrics with the same tensors."""
    old = read_checkpoint(folder)
    write_checkpoint(folder, Checkpoint(old.specification, old.policy, {**old.metrics, "success_hard": 0.5}))
    assert read_checkpoint(folder).metrics == {"success_easy": 0.875, "success_hard": 0.5}


def damage(key: str, value: object) -> Callable[[Document, Arrays], None]:
    return lambda header, arrays: header.__setitem__(key, value)


def drop_tensor(header: Document, arrays: Arrays) -> None:
    del arrays["mean"]


def add_tensor(header: Document, arrays: Arrays) -> None:
    arrays["surplus"] = np.zeros(1, np.float32)


def wrong_shape(header: Document, arrays: Arrays) -> None:
    arrays["mean"] = np.zeros(7, np.float32)


def wrong_type(header: Document, arrays: Arrays) -> None:
    arrays["mean"] = arrays["mean"].astype(np.float64)


def not_finite(header: Document, arrays: Arrays) -> None:
    arrays["velocity_layer.bias"][3] = np.nan


def silently_other(header: Document, arrays: Arrays) -> None:
    arrays["velocity_layer.bias"][3] += 1.0


def other_architecture(header: Document, arrays: Arrays) -> None:
    architecture = header["architecture"]
    assert isinstance(architecture, dict)
    architecture["chunk_steps"] = 6


def huge_architecture(header: Document, arrays: Arrays) -> None:
    architecture = header["architecture"]
    assert isinstance(architecture, dict)
    architecture["hidden_sizes"] = [10**9]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (damage("version", 2), "this poco reads poco-checkpoint v1"),
        (damage("format", "other"), "this poco reads poco-checkpoint v1"),
        (damage("surplus", 1), "not readable"),
        (damage("kind", "gaussian"), "of the kind 'gaussian', this poco reads flow, image, vla"),
        (damage("kind", "image"), "has or lacks an architecture"),
        (damage("specification_hash", "0" * 64), "does not match its hash"),
        (drop_tensor, "tensors of its architecture"),
        (add_tensor, "tensors of its architecture"),
        (wrong_shape, "expected float32"),
        (wrong_type, "expected float32"),
        (not_finite, "not finite"),
        (silently_other, "corrupted"),
        (other_architecture, "does not fit its specification"),
        (huge_architecture, "not readable"),
    ],
)
def test_damaged_checkpoints_are_refused(
    folder: Path, change: Callable[[Document, Arrays], None], sentence: str
) -> None:
    """Every kind of damage gives one sentence that names the file."""
    rewrite(folder, change)
    with pytest.raises(ArtifactError, match=sentence) as caught:
        read_checkpoint(folder)
    assert FILE in str(caught.value)


def test_truncated_foreign_and_missing_files_are_refused(folder: Path) -> None:
    """A cut file, a file that is something else and no file at all are told apart from a checkpoint."""
    payload = (folder / FILE).read_bytes()
    for other in (payload[: len(payload) // 2], b"\x80\x04something else", b""):
        (folder / FILE).write_bytes(other)
        with pytest.raises(ArtifactError, match="not readable"):
            read_checkpoint(folder)
    (folder / FILE).unlink()
    with pytest.raises(ArtifactError, match="no checkpoint"):
        read_checkpoint(folder)


def test_any_flipped_byte_of_the_tensors_is_noticed(folder: Path) -> None:
    """Bytes over the whole tensor part, flipped one at a time, are all refused."""
    payload = (folder / FILE).read_bytes()
    start = 8 + int.from_bytes(payload[:8], "little")
    for place in np.linspace(start, len(payload) - 1, 40, dtype=int):
        flipped = bytearray(payload)
        flipped[place] ^= 0x10
        (folder / FILE).write_bytes(flipped)
        with pytest.raises(ArtifactError):
            read_checkpoint(folder)


@pytest.fixture
def seeing(specification: Specification, tmp_path: Path) -> Path:
    """A checkpoint with an encoder of two cameras, neither trained, whose running statistics have moved."""
    torch.manual_seed(3)
    encoder = ImageEncoder(EncoderArchitecture(cameras=("left", "right"), side=32, features=3, width=2))
    encoder(torch.randint(0, 256, (4, 2, 3, 32, 32), dtype=torch.uint8), torch.zeros(4, 1))
    seen = with_features(specification, encoder.freeze())
    policy = FlowPolicy(Architecture.of(seen, (16, 16)))
    write_checkpoint(tmp_path / "seeing", Checkpoint(seen, policy, {"success_easy": 0.5}, encoder))
    return tmp_path / "seeing"


def test_an_encoder_of_images_comes_back_with_its_policy(
    seeing: Path, specification: Specification, tmp_path: Path
) -> None:
    """Encoder, running statistics and policy come back exactly, and the same observation from the same images."""
    first = read_checkpoint(seeing)
    write_checkpoint(tmp_path / "again", first)
    second = read_checkpoint(tmp_path / "again")
    assert (seeing / FILE).read_bytes() == (tmp_path / "again" / FILE).read_bytes()
    assert first.encoder is not None
    assert second.encoder is not None
    assert first.specification.told == specification
    images = torch.randint(0, 256, (3, 2, 3, 32, 32), dtype=torch.uint8)
    state = torch.zeros(3, specification.observation_size)
    one, two = (encoder(images, state) for encoder in (first.encoder, second.encoder))
    assert torch.equal(one, two)
    assert not torch.equal(one[0], one[1])
    assert not any(parameter.requires_grad for parameter in second.encoder.parameters())
    assert not second.encoder.training


def lose_encoder(header: Document, arrays: Arrays) -> None:
    for key in [key for key in arrays if key.startswith("encoder.")]:
        del arrays[key]


def other_camera(header: Document, arrays: Arrays) -> None:
    encoder = header["encoder"]
    assert isinstance(encoder, dict)
    encoder["cameras"] = ["right", "left"]


def no_variance(header: Document, arrays: Arrays) -> None:
    arrays["encoder.networks.0.bn1.running_var"][:] = np.nan


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (damage("kind", "flow"), "has or lacks an architecture"),
        (damage("encoder", None), "has or lacks an architecture"),
        (lose_encoder, "tensors of its architecture"),
        (no_variance, "not finite"),
        (other_camera, "another encoder than its specification names"),
    ],
)
def test_damaged_encoders_are_refused(seeing: Path, change: Callable[[Document, Arrays], None], sentence: str) -> None:
    """An encoder that is missing, unsound, or not the one that the specification names by its hash gives one sentence."""
    rewrite(seeing, change)
    with pytest.raises(ArtifactError, match=sentence) as caught:
        read_checkpoint(seeing)
    assert FILE in str(caught.value)
