"""Artifact v1: a folder with a manifest, ONNX graphs, tensor files and golden vectors, every file named by its hash.

```
manifest.json        this module's Manifest as JSON
policy.onnx          graph(s), single file, no external data
trained.safetensors  tensors bound as graph inputs (what a swap replaces)
golden.safetensors   observation, noise and the chunk the exporter got from them
```
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from poco.episodes import write_durably
from poco.errors import ArtifactError
from poco.specification import Specification

FORMAT = "poco-artifact"
VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 33
MAX_TENSORS = 4096

Tensors = dict[str, npt.NDArray[np.generic]]


class GraphInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input of a graph: `source` is observation, noise, state, graph:<output> or tensor:<key>; shape without free axes."""

    name: str
    source: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    transposed: bool = False


class GraphOutput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One output of a graph."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class Graph(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ONNX graph of the policy: its file, hash, inputs with their sources, outputs."""

    name: str
    file: str
    sha256: str
    inputs: tuple[GraphInput, ...]
    outputs: tuple[GraphOutput, ...]


class TensorFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One safetensors file: `trained` tensors a swap may replace, `frozen` ones that never change, `golden` test vectors."""

    file: str
    sha256: str
    role: Literal["trained", "frozen", "golden"]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names every file of an artifact by hash and says which robot, specification and generation it is for."""

    format: str
    version: int
    policy: Literal["chunk", "prefix_step"]
    robot_model: str
    specification: Specification
    specification_hash: str
    graphs: tuple[Graph, ...]
    graph_hash: str
    tensors: tuple[TensorFile, ...]
    noise_shape: tuple[int, ...] | None
    swappable: bool
    generation: int
    parent: int | None
    expires_unix_s: int | None
    golden_tolerance: float
    metrics: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact: its manifest, graph bytes by graph name, bound tensors by key, golden vectors by name."""

    path: Path
    manifest: Manifest
    graphs: dict[str, bytes]
    tensors: Tensors
    golden: Tensors

    @property
    def specification(self) -> Specification:
        """The specification the policy was trained under."""
        return self.manifest.specification


def sha256(payload: bytes) -> str:
    """Return the hexadecimal sha256 of `payload`."""
    return hashlib.sha256(payload).hexdigest()


def graph_hash(graphs: dict[str, bytes]) -> str:
    """Return the hash that identifies an architecture: over the graphs' names and contents in sorted order."""
    return sha256("".join(f"{name}:{sha256(graphs[name])};" for name in sorted(graphs)).encode())


def write_artifact(path: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write `files` and then the manifest into the folder `path`; the exporter calls it, each file durably."""
    path.mkdir(parents=True, exist_ok=True)
    for name, payload in files.items():
        write_durably(path / name, payload)
    document = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    write_durably(path / MANIFEST, document)


def read_artifact(path: Path) -> Artifact:
    """Read and verify the artifact in folder `path`; raises ArtifactError with file, reason and remedy.

    Order: sizes, manifest schema and version, hash of every file, no unnamed files, tensors against graph inputs, finiteness.
    """
    manifest = _read_manifest(path)
    named = {graph.file: graph.sha256 for graph in manifest.graphs}
    named |= {item.file: item.sha256 for item in manifest.tensors}
    payloads = {name: _read_file(path, name, digest) for name, digest in named.items()}
    extra = {item.name for item in path.iterdir()} - set(named) - {MANIFEST}
    if extra:
        raise ArtifactError(
            f"artifact {path} holds files its manifest does not name ({', '.join(sorted(extra))}): remove them"
        )
    graphs = {graph.name: payloads[graph.file] for graph in manifest.graphs}
    if graph_hash(graphs) != manifest.graph_hash:
        raise ArtifactError(f"artifact {path} has graphs that do not match its graph hash: export it again")
    bound: Tensors = {}
    golden: Tensors = {}
    for item in manifest.tensors:
        (golden if item.role == "golden" else bound).update(_read_tensors(path / item.file, payloads[item.file]))
    _check_bindings(path, manifest, bound)
    return Artifact(path, manifest, graphs, bound, golden)


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not path.is_dir() or file.is_symlink() or not file.is_file():
        raise ArtifactError(f"no artifact at {path}: give a folder that holds {MANIFEST}, as `poco-export` makes it")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactError(f"manifest {file} has {file.stat().st_size} bytes, the limit is {MAX_MANIFEST_BYTES}")
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, ArtifactError) as error:
        raise ArtifactError(f"manifest {file} is not valid ({error}): export the policy again") from error
    if manifest.format != FORMAT or manifest.version != VERSION:
        raise ArtifactError(
            f"artifact {path} is {manifest.format} v{manifest.version}, this poco reads {FORMAT} v{VERSION}"
        )
    if manifest.robot_model != manifest.specification.robot:
        raise ArtifactError(
            f"artifact {path} is for the robot {manifest.robot_model}, its specification for {manifest.specification.robot}: "
            "export it again"
        )
    if manifest.specification.digest() != manifest.specification_hash:
        raise ArtifactError(f"artifact {path} carries a specification that does not match its hash: export it again")
    return manifest


def _read_file(path: Path, name: str, digest: str) -> bytes:
    file = path / name
    if Path(name).name != name or name.startswith("."):
        raise ArtifactError(f"artifact {path} names the file {name!r}: only plain file names are allowed")
    if file.is_symlink() or not file.is_file():
        raise ArtifactError(f"artifact {path} lacks its file {name}: copy the whole folder again")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactError(f"artifact file {file} has {file.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}")
    payload = file.read_bytes()
    if sha256(payload) != digest:
        raise ArtifactError(
            f"artifact file {file} is corrupted (its sha256 is not the manifest's): copy or export it again"
        )
    return payload


def _read_tensors(file: Path, payload: bytes) -> Tensors:
    try:
        tensors: Tensors = load(payload)
    except SafetensorError as error:
        raise ArtifactError(f"tensor file {file} is not readable ({error}): export it again") from error
    if len(tensors) > MAX_TENSORS:
        raise ArtifactError(f"tensor file {file} holds {len(tensors)} tensors, the limit is {MAX_TENSORS}")
    for key, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.all(np.isfinite(tensor)):
            raise ArtifactError(f"tensor {key} in {file} holds values that are not finite: the policy was never sound")
    return tensors


def _check_bindings(path: Path, manifest: Manifest, tensors: Tensors) -> None:
    wanted: dict[str, GraphInput] = {}
    for graph in manifest.graphs:
        for item in graph.inputs:
            if item.source.startswith("tensor:"):
                wanted[item.source.removeprefix("tensor:")] = item
            elif item.source not in ("observation", "noise", "state") and not item.source.startswith("graph:"):
                raise ArtifactError(f"artifact {path}: input {item.name} has the unknown source {item.source!r}")
    if set(wanted) != set(tensors):
        odd = sorted(set(wanted) ^ set(tensors))
        raise ArtifactError(
            f"artifact {path}: graph inputs and tensors do not match ({', '.join(odd[:5])}): export it again"
        )
    for key, item in wanted.items():
        shape = tensors[key].shape[::-1] if item.transposed else tensors[key].shape
        if shape != item.shape or str(tensors[key].dtype) != item.dtype:
            raise ArtifactError(
                f"artifact {path}: tensor {key} is {tensors[key].dtype}{list(shape)}, its graph input wants "
                f"{item.dtype}{list(item.shape)}: export it again"
            )
