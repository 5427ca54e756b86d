"""Trained tensors straight from a file of the store: mapped into memory, not copied, ready to be bound."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from poco.artifact import MAX_TENSOR_HEADER_BYTES, Artifact, Manifest, Tensors
from poco.errors import ArtifactError

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


def map_tensors(file: Path) -> Tensors:
    """Return the tensors of a safetensors `file` as read-only views of its pages, all of them read in.

    For files that the gate has verified. Costs no copy, so that taking in a policy of any size does not hold up the next
    inference. Raises ArtifactError if the file does not have the layout (safetensors format, version 1).
    """
    with file.open("rb") as stream:
        view = memoryview(mmap.mmap(stream.fileno(), 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ))
    size = int.from_bytes(view[:8], "little")
    try:
        if size > min(MAX_TENSOR_HEADER_BYTES, len(view) - 8):
            raise ValueError(f"its header would have {size} bytes")
        header = msgspec.json.decode(view[8 : 8 + size], type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        data = view[8 + size :]
        return {key: _view(msgspec.json.decode(raw, type=_Entry), data) for key, raw in header.items()}
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise ArtifactError(f"tensor file {file} cannot be mapped ({error}): publish the generation again") from error


def _view(entry: _Entry, data: memoryview) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    first, last = entry.data_offsets
    return np.frombuffer(data[first:last], np.dtype(DTYPES[entry.dtype])).reshape(entry.shape)


def map_generation(folder: Path, manifest: Manifest, running: Artifact) -> Tensors:
    """Return all bound tensors of the generation in `folder`; those that are the same file as in `running` are shared with it."""
    held = {item.file: item.sha256 for item in running.manifest.tensors}
    tensors: Tensors = {}
    for item in manifest.tensors:
        if item.role == "golden":
            continue
        mapped = map_tensors(folder / item.file)
        shared = held.get(item.file) == item.sha256
        tensors |= {key: running.tensors[key] if shared else value for key, value in mapped.items()}
    return tensors
