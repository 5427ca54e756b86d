"""An artifact comes back exactly as exported or is refused with one sentence, whatever happened to its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from poco.artifact import MANIFEST, Artifact, graph_hash, read_artifact, sha256
from poco.errors import ArtifactError

Document = dict[str, Any]


def edit_manifest(path: Path, change: Callable[[Document], None]) -> None:
    """Let `change` alter the manifest as JSON and write it back."""
    document = json.loads((path / MANIFEST).read_bytes())
    change(document)
    (path / MANIFEST).write_text(json.dumps(document))


def rehash(path: Path) -> None:
    """Make the manifest name the hashes of the files as they are now."""

    def change(document: Document) -> None:
        for item in (*document["graphs"], *document["tensors"]):
            item["sha256"] = sha256((path / item["file"]).read_bytes())
        document["graph_hash"] = graph_hash(
            {item["name"]: (path / item["file"]).read_bytes() for item in document["graphs"]}
        )

    edit_manifest(path, change)


def refuse(path: Path, sentence: str) -> None:
    """Assert that reading raises one ArtifactError with `sentence` in one line."""
    with pytest.raises(ArtifactError, match=sentence) as caught:
        read_artifact(path)
    assert "\n" not in str(caught.value)


def test_round_trip_is_exact(artifact: Artifact) -> None:
    """Reading twice gives the same manifest, graph bytes, tensors and golden vectors; three files and a manifest lie there."""
    again = read_artifact(artifact.path)
    assert again.manifest == artifact.manifest
    assert again.graphs == artifact.graphs
    for one, other in ((again.tensors, artifact.tensors), (again.golden, artifact.golden)):
        assert set(one) == set(other)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    assert sorted(item.name for item in artifact.path.iterdir()) == [
        "golden.safetensors",
        MANIFEST,
        "policy.onnx",
        "trained.safetensors",
    ]


@pytest.mark.parametrize("name", ["policy.onnx", "trained.safetensors", "golden.safetensors"])
def test_any_flipped_byte_is_noticed(artifact: Artifact, name: str) -> None:
    """Bytes over the whole file, flipped one at a time, are all refused by name."""
    payload = (artifact.path / name).read_bytes()
    for place in np.linspace(0, len(payload) - 1, 25, dtype=int):
        flipped = bytearray(payload)
        flipped[place] ^= 0x01
        (artifact.path / name).write_bytes(flipped)
        refuse(artifact.path, f"{name} is corrupted")


@pytest.mark.parametrize("name", ["policy.onnx", "trained.safetensors", "golden.safetensors", MANIFEST])
def test_missing_files_and_links_are_refused(artifact: Artifact, name: str, tmp_path: Path) -> None:
    """A file that is gone, and one that is a link to the right content, are refused."""
    moved = (artifact.path / name).rename(tmp_path / name)
    refuse(artifact.path, name)
    (artifact.path / name).symlink_to(moved)
    refuse(artifact.path, name)


def test_foreign_files_and_folders_are_refused(artifact: Artifact) -> None:
    """What the manifest does not name must not lie in the folder; a file is not a folder."""
    (artifact.path / "notes.txt").write_text("hello")
    refuse(artifact.path, "notes.txt")
    refuse(artifact.path / "notes.txt", "no artifact")
    refuse(artifact.path / "absent", "no artifact")


def set_key(*keys: str | int, value: object) -> Callable[[Document], None]:
    """Return a change that sets the entry at `keys`."""

    def change(document: Document) -> None:
        place: Any = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_key("version", value=2), "this poco reads poco-artifact v1"),
        (set_key("format", value="other"), "this poco reads poco-artifact v1"),
        (set_key("surplus", value=1), "not valid"),
        (set_key("policy", value="pickle"), "not valid"),
        (set_key("specification", "rate_hz", value=10.0), "specification that does not match its hash"),
        (set_key("specification", "rate_hz", value=0.0), "rate_hz"),
        (set_key("specification_hash", value="0" * 64), "specification that does not match its hash"),
        (set_key("graph_hash", value="0" * 64), "graph hash"),
        (set_key("graphs", 0, "sha256", value="0" * 64), "corrupted"),
        (set_key("tensors", 0, "sha256", value="0" * 64), "corrupted"),
        (set_key("graphs", 0, "file", value="../policy.onnx"), "plain file names"),
        (set_key("tensors", 0, "file", value="/etc/hostname"), "plain file names"),
        (set_key("tensors", 0, "file", value="sub/trained.safetensors"), "plain file names"),
        (set_key("tensors", 0, "file", value=".."), "plain file names"),
        (set_key("graphs", 0, "inputs", 2, "source", value="tensor:absent"), "do not match"),
        (set_key("graphs", 0, "inputs", 2, "source", value="camera"), "unknown source"),
        (set_key("graphs", 0, "inputs", 2, "shape", value=[7]), "graph input wants"),
        (set_key("graphs", 0, "inputs", 2, "dtype", value="float64"), "graph input wants"),
    ],
)
def test_altered_manifests_are_refused(artifact: Artifact, change: Callable[[Document], None], sentence: str) -> None:
    """Every entry that does not fit the files, the version or the specification gives one sentence."""
    edit_manifest(artifact.path, change)
    refuse(artifact.path, sentence)


def test_broken_manifests_are_refused(artifact: Artifact) -> None:
    """A manifest that is empty, cut, not text or far too large is no manifest."""
    payload = (artifact.path / MANIFEST).read_bytes()
    for broken in (b"", payload[: len(payload) // 2], b"\xff" + payload):
        (artifact.path / MANIFEST).write_bytes(broken)
        refuse(artifact.path, "not valid")
    (artifact.path / MANIFEST).write_bytes(payload + b" " * (1 << 20))
    refuse(artifact.path, "the limit is")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["trained.safetensors", "golden.safetensors"])
def test_tensors_that_are_not_finite_are_refused_though_hashed(artifact: Artifact, name: str, value: float) -> None:
    """A NaN or infinity in a tensor file is found even where all hashes agree."""
    tensors = load_file(artifact.path / name)
    key = sorted(tensors)[0]
    tensors[key] = tensors[key].copy()
    tensors[key].flat[0] = value
    save_file(tensors, artifact.path / name)
    rehash(artifact.path)
    refuse(artifact.path, "not finite")


def test_tensors_of_a_wrong_shape_are_refused_though_hashed(artifact: Artifact) -> None:
    """A tensor that does not fit its graph input, one too many and one too few are found though all hashes agree."""
    file = artifact.path / "trained.safetensors"
    good = load_file(file)
    for tensors, sentence in (
        ({**good, "mean": np.zeros(7, np.float32)}, "graph input wants"),
        ({**good, "mean": good["mean"].astype(np.float64)}, "graph input wants"),
        ({**good, "surplus": np.zeros(1, np.float32)}, "do not match"),
        ({key: value for key, value in good.items() if key != "mean"}, "do not match"),
    ):
        save_file(tensors, file)
        rehash(artifact.path)
        refuse(artifact.path, sentence)
    file.write_bytes(b"not a tensor file")
    rehash(artifact.path)
    refuse(artifact.path, "not readable")


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3"])
def test_tensors_of_a_type_that_numpy_lacks_are_refused_though_hashed(artifact: Artifact, kind: str) -> None:
    """Half precision of another kind is a well-formed tensor file, and no policy of ours."""
    size = 2 if kind == "BF16" else 1
    header = json.dumps({"mean": {"dtype": kind, "shape": [4], "data_offsets": [0, 4 * size]}}).encode()
    payload = len(header).to_bytes(8, "little") + header + bytes(4 * size)
    (artifact.path / "trained.safetensors").write_bytes(payload)
    rehash(artifact.path)
    refuse(artifact.path, "not readable")
