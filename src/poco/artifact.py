"""Artifact v1: a folder with a manifest, ONNX graphs, tensor files and golden vectors, every file named by its hash.

```
manifest.json        this module's Manifest as JSON
manifest.sig         detached signature over the manifest's bytes (`poco.trust`), for artifacts that are offered to a robot
policy.onnx          graph(s), single file, no external data
trained.safetensors  tensors bound as graph inputs (what a swap replaces)
golden.safetensors   observation, noise and the chunk the exporter got from them
tokenizer.json       how words become tokens, for a policy that takes a prompt (`poco.vla`)
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from poco.durable import write_durably
from poco.errors import ArtifactError
from poco.refusal import Reason, Refused
from poco.specification import Specification
from poco.vla import VLA_SOURCES, Vla

FORMAT = "poco-artifact"
VERSION = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 33
MAX_TENSORS = 4096
MAX_TENSOR_HEADER_BYTES = 1 << 20
MAX_WEIGHT = 1e6
"""A trained value of a larger magnitude was never sound."""

TENSOR = "tensor:"
PLAIN_SOURCES = ("observation", "noise", "images", "state")
"""What comes from outside; `state` is the observation without what an encoder makes of `images`."""

Tensors = dict[str, npt.NDArray[np.generic]]


class GraphInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input of a graph: `source` is observation, noise, images, state, one of `poco.vla.VLA_SOURCES`, graph:<output> or
    tensor:<key>; no free axes. A tensor lies in its file as the input takes it; `transposed` says that this is the other way round
    than in the network it was trained in, so that whoever writes the file turns it and a robot copies nothing."""

    name: str
    source: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    transposed: bool = False

    @property
    def tensor(self) -> str | None:
        """Key of the tensor it is, None for any other input."""
        return self.source.removeprefix(TENSOR) if self.source.startswith(TENSOR) else None


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
    """Names every file of an artifact by hash and says which robot, specification and generation it is for.

    `network` is what a learner needs to build the policy again (its architecture); without it the artifact only runs. `vla` belongs
    to the policy "prefix_step".
    """

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
    network: dict[str, int | str | tuple[int, ...]] | None = None
    vla: Vla | None = None

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that the policy looks through, in the order of their images; none for one that sees nothing."""
        return self.specification.cameras if self.vla is None else self.vla.cameras_used


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact: its manifest, graph bytes by graph name, bound tensors by key, golden vectors by name, tokenizer."""

    path: Path
    manifest: Manifest
    graphs: dict[str, bytes]
    tensors: Tensors
    golden: Tensors
    tokenizer: bytes = b""

    @property
    def specification(self) -> Specification:
        """The specification the policy was trained under."""
        return self.manifest.specification

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that it looks through, in the order of their images; none for a policy that sees nothing."""
        return self.manifest.cameras

    @property
    def image_side(self) -> int:
        """Pixels each way of the images that its encoder takes, 0 without one."""
        taken = [item.shape for graph in self.manifest.graphs for item in graph.inputs if item.source == "images"]
        return taken[0][-1] if taken and taken[0] else 0

    @property
    def viewed_side(self) -> int:
        """Pixels each way of the images that are journaled, 0 where none are: of an encoder, or the squares of a `vla`."""
        seen = () if self.manifest.vla is None else self.manifest.vla.cameras
        squares = {item.height for item in seen if item.camera is not None and item.height == item.width}
        return next(iter(squares), self.image_side)


def sha256(payload: bytes) -> str:
    """Return the hexadecimal sha256 of `payload`."""
    return hashlib.sha256(payload).hexdigest()


def graph_hash(graphs: dict[str, bytes]) -> str:
    """Return the hash that identifies an architecture: over the graphs' names and contents in sorted order."""
    return sha256("".join(f"{name}:{sha256(graphs[name])};" for name in sorted(graphs)).encode())


def write_artifact(path: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write `files` and then the manifest into the folder `path`; the exporter calls it, each file durably."""
    document = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    path.mkdir(parents=True, exist_ok=True)
    for name, payload in files.items():
        write_durably(path / name, payload)
    write_durably(path / MANIFEST, document)


def write_signed(path: Path, manifest: bytes, files: Mapping[str, bytes]) -> None:
    """Write an artifact whose manifest may not change by a byte into the folder `path`, for `read_artifact`; not durable."""
    for name, payload in files.items():
        (path / name).write_bytes(payload)
    (path / MANIFEST).write_bytes(manifest)


def read_artifact(path: Path) -> Artifact:
    """Read and verify the artifact in folder `path`; raises ArtifactError with file, reason and remedy.

    Order: sizes, manifest schema and version, hash of every file, no unnamed files, tensors against graph inputs, finiteness.
    """
    manifest = read_manifest(path)
    payloads = {name: _read_file(path, name) for name in named_files(manifest)}
    payloads |= {item.name: b"" for item in path.iterdir() if item.name not in (*payloads, MANIFEST, SIGNATURE)}
    return assemble(path, manifest, payloads)


def read_manifest(path: Path) -> Manifest:
    """Read only the manifest of the artifact in folder `path`, consistent in itself; raises ArtifactError."""
    file = path / MANIFEST
    if not path.is_dir() or file.is_symlink() or not file.is_file():
        raise ArtifactError(f"no artifact at {path}: give a folder that holds {MANIFEST}, as `poco-export` makes it")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise Refused(
            Reason.TOO_LARGE, f"manifest {file} has {file.stat().st_size} bytes, the limit is {MAX_MANIFEST_BYTES}"
        )
    return parse_manifest(file.read_bytes(), str(path))


def parse_manifest(payload: bytes, where: str) -> Manifest:
    """Return the manifest in `payload`, consistent in itself; raises Refused naming the artifact `where` and the reason."""
    try:
        manifest = msgspec.json.decode(payload, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, ArtifactError) as error:
        raise Refused(
            Reason.MALFORMED, f"the manifest of {where} is not valid ({error}): export the policy again"
        ) from error
    if manifest.format != FORMAT or manifest.version != VERSION:
        raise Refused(
            Reason.MALFORMED,
            f"artifact {where} is {manifest.format} v{manifest.version}, this poco reads {FORMAT} v{VERSION}",
        )
    if manifest.robot_model != manifest.specification.robot:
        raise Refused(
            Reason.WRONG_ROBOT,
            f"artifact {where} is for the robot {manifest.robot_model}, its specification for "
            f"{manifest.specification.robot}: export it again",
        )
    if manifest.specification.digest() != manifest.specification_hash:
        raise Refused(
            Reason.WRONG_SPECIFICATION,
            f"artifact {where} carries a specification that does not match its hash: export it again",
        )
    if (manifest.vla is not None) != (manifest.policy == "prefix_step"):
        raise Refused(
            Reason.MALFORMED,
            f"artifact {where} is a {manifest.policy} policy {'without' if manifest.vla is None else 'with'} what is said of a "
            "vision-language-action policy: export it again",
        )
    for name in named_files(manifest):
        if Path(name).name != name or name.startswith(".") or name in (MANIFEST, SIGNATURE):
            raise Refused(
                Reason.MALFORMED, f"artifact {where} names the file {name!r}: only plain file names are allowed"
            )
    return manifest


def named_files(manifest: Manifest) -> dict[str, str]:
    """Return the sha256 of every file that `manifest` names."""
    named = {graph.file: graph.sha256 for graph in manifest.graphs}
    if manifest.vla is not None:
        named[manifest.vla.prompt.tokenizer] = manifest.vla.prompt.tokenizer_sha256
    return named | {item.file: item.sha256 for item in manifest.tensors}


def assemble(path: Path, manifest: Manifest, payloads: Mapping[str, bytes]) -> Artifact:
    """Return the artifact of `manifest` and exactly its files `payloads`, or raise Refused; `path` says where they came from."""
    named = named_files(manifest)
    if extra := sorted(set(payloads) - set(named)):
        raise Refused(
            Reason.EXTRANEOUS_FILE,
            f"artifact {path} holds files its manifest does not name ({', '.join(extra)}): remove them",
        )
    for name, digest in named.items():
        if name not in payloads:
            raise Refused(Reason.MISSING_FILE, f"artifact {path} lacks its file {name}: copy the whole folder again")
        if sha256(payloads[name]) != digest:
            raise Refused(
                Reason.WRONG_HASH,
                f"artifact file {path / name} is corrupted (its sha256 is not the manifest's): copy or export it again",
            )
    graphs = {graph.name: payloads[graph.file] for graph in manifest.graphs}
    if graph_hash(graphs) != manifest.graph_hash:
        raise Refused(
            Reason.WRONG_HASH, f"artifact {path} has graphs that do not match its graph hash: export it again"
        )
    bound: Tensors = {}
    golden: Tensors = {}
    for item in manifest.tensors:
        (golden if item.role == "golden" else bound).update(_read_tensors(path / item.file, payloads[item.file]))
    _check_bindings(path, manifest, bound)
    tokenizer = b"" if manifest.vla is None else payloads[manifest.vla.prompt.tokenizer]
    return Artifact(path, manifest, graphs, bound, golden, tokenizer)


def _read_file(path: Path, name: str) -> bytes:
    file = path / name
    if file.is_symlink() or not file.is_file():
        raise Refused(Reason.MISSING_FILE, f"artifact {path} lacks its file {name}: copy the whole folder again")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise Refused(
            Reason.TOO_LARGE, f"artifact file {file} has {file.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}"
        )
    return file.read_bytes()


def _read_tensors(file: Path, payload: bytes) -> Tensors:
    header = int.from_bytes(payload[:8], "little")
    if MAX_TENSOR_HEADER_BYTES < header <= len(payload):
        raise Refused(
            Reason.TOO_LARGE,
            f"tensor file {file} has a header of {header} bytes, the limit is {MAX_TENSOR_HEADER_BYTES}",
        )
    try:
        tensors: Tensors = load(payload)
    except (SafetensorError, KeyError) as error:  # the latter for a type that numpy lacks
        raise Refused(Reason.WRONG_TENSORS, f"tensor file {file} is not readable ({error}): export it again") from error
    if len(tensors) > MAX_TENSORS:
        raise Refused(Reason.TOO_LARGE, f"tensor file {file} holds {len(tensors)} tensors, the limit is {MAX_TENSORS}")
    for key, tensor in tensors.items():
        if not np.issubdtype(tensor.dtype, np.floating) or not tensor.size:
            continue
        largest = float(np.abs(tensor).max())
        if not largest <= MAX_WEIGHT:
            what = "values that are not finite" if not np.isfinite(largest) else f"a value of magnitude {largest:g}"
            raise Refused(
                Reason.NOT_FINITE,
                f"tensor {key} in {file} holds {what}, the limit is {MAX_WEIGHT:g}: the policy was never sound",
            )
    return tensors


def _check_bindings(path: Path, manifest: Manifest, tensors: Tensors) -> None:
    wanted: list[tuple[str, GraphInput]] = []
    known = PLAIN_SOURCES if manifest.vla is None else PLAIN_SOURCES + VLA_SOURCES
    for graph in manifest.graphs:
        for item in graph.inputs:
            if item.tensor is not None:
                wanted.append((item.tensor, item))
            elif item.source not in known and not item.source.startswith("graph:"):
                raise Refused(
                    Reason.MALFORMED, f"artifact {path}: input {item.name} has the unknown source {item.source!r}"
                )
    if odd := sorted({key for key, _ in wanted} ^ set(tensors)):
        raise Refused(
            Reason.WRONG_TENSORS,
            f"artifact {path}: graph inputs and tensors do not match ({', '.join(odd[:5])}): export it again",
        )
    for key, item in wanted:
        if tensors[key].shape != item.shape or str(tensors[key].dtype) != item.dtype:
            raise Refused(
                Reason.WRONG_TENSORS,
                f"artifact {path}: tensor {key} is {tensors[key].dtype}{list(tensors[key].shape)}, its graph input wants "
                f"{item.dtype}{list(item.shape)}: export it again",
            )
