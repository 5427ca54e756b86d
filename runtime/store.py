"""The robot's artifacts on disk: every file once by its hash, generations as folders of hard links, two pointers, one floor.

```
files/<sha256>                       content, never changed
generations/000123-<hash of manifest>/   manifest, signature and links into files/
current, previous                    names of generations; what a robot starts with is current, else previous, else none
floor.json                           highest generation ever taken and highest trust list ever seen
offered                              newest generation that has passed the gate
tried                                newest generation that was ever loaded here
wanted                               what the policy process made active; the gate process makes it current
request                              what an operator asks of the policy process: veto or rollback
```

Everything is written beside, synced and renamed, so that a robot that loses its power anywhere has the old state or the new.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from poco.artifact import MANIFEST, SIGNATURE, Artifact, Manifest, named_files, parse_manifest, read_artifact, sha256
from poco.durable import sync_folder, write_durably
from poco.errors import ArtifactError

KEPT = 3
"""So many of the newest generations stay besides those that are pointed at."""

FLOOR_FILE = "floor.json"
Pointer = Literal["current", "previous", "offered", "tried", "wanted"]
POINTERS: tuple[Pointer, ...] = ("current", "previous", "offered", "tried", "wanted")
Request = Literal["veto", "rollback"]
REQUESTS: tuple[Request, ...] = ("veto", "rollback")


class Floor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a robot never goes below again: generation of a policy and revision of the trust list."""

    generation: int = 0
    trust_revision: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operator asked for, and when (Unix time, ns), which tells it from the same asked for again."""

    request: Request
    asked_ns: int


class ArtifactStore:
    """The artifacts of one robot; the gate process adds, the policy process moves the pointers current and previous."""

    def __init__(self, folder: Path) -> None:
        """Open or make the store in `folder`, for its owner only."""
        self.folder = folder
        self._files, self._generations = folder / "files", folder / "generations"
        for made in (folder, self._files, self._generations):
            made.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    @property
    def floor(self) -> Floor:
        """What was reached; raises ArtifactError if the file was damaged, since nobody can say then what is a rollback."""
        file = self.folder / FLOOR_FILE
        if not file.exists():
            return Floor()
        try:
            return msgspec.json.decode(file.read_bytes(), type=Floor)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ArtifactError(
                f'{file} is damaged ({error}): write {{"generation": N, "trust_revision": M}} with the highest seen'
            ) from error

    def raise_floor(self, generation: int, trust_revision: int) -> None:
        """Remember durably that `generation` was taken under the trust list `trust_revision`; never lowers anything."""
        old = self.floor
        new = Floor(generation=max(old.generation, generation), trust_revision=max(old.trust_revision, trust_revision))
        if new != old:
            write_durably(self.folder / FLOOR_FILE, msgspec.json.encode(new))

    def holds(self, digest: str) -> bool:
        """Tell whether a file with that sha256 is there."""
        return (self._files / digest).is_file()

    def read_file(self, digest: str) -> bytes:
        """Return the content of the file `digest` as it is on the disk; whoever uses it compares the hash."""
        return (self._files / digest).read_bytes()

    def knows_graph(self, graph_hash: str) -> bool:
        """Tell whether a generation with that graph has passed the gate here."""
        return any(manifest.graph_hash == graph_hash for manifest in self._manifests())

    def add(self, manifest: bytes, signature: bytes, files: Mapping[str, bytes]) -> Path:
        """Store a generation that has passed the gate, durably and at once, and return its folder.

        `files` holds content by name; files that are here already by their hash may be left out.
        """
        parsed = parse_manifest(manifest, "the offer")
        for payload in files.values():
            if not self.holds(digest := sha256(payload)):
                write_durably(self._files / digest, payload)
        final = self._generations / _name(parsed, manifest)
        beside = final.with_name(final.name + ".part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for name, digest in named_files(parsed).items():
            os.link(self._files / digest, beside / name)
        write_durably(beside / SIGNATURE, signature)
        write_durably(beside / MANIFEST, manifest)
        if not final.exists():
            beside.rename(final)
            sync_folder(self._generations)
        return final

    def pointer(self, name: Pointer) -> Path | None:
        """Return the folder that `name` points at, or None if it points nowhere or at something that is gone."""
        target = _text(self.folder / name)
        folder = self._generations / target
        return folder if target and Path(target).name == target and folder.is_dir() else None

    def point(self, name: Pointer, folder: Path) -> None:
        """Let `name` point at the generation in `folder`, durably."""
        write_durably(self.folder / name, folder.name.encode() + b"\n")

    def activate(self, folder: Path) -> None:
        """Make the generation in `folder` the one a robot starts with; the one until now becomes the one before."""
        current = self.pointer("current")
        if current is not None and current != folder:
            self.point("previous", current)
        self.point("current", folder)

    def want(self, folder: Path) -> None:
        """Ask the gate process to make `folder` current; the policy process calls it and waits for no disk. Raises OSError."""
        _replace(self.folder / "wanted", folder.name)

    def fulfil(self) -> None:
        """Make current, durably, what the policy process made active; the gate process calls it."""
        folder = self.pointer("wanted")
        if folder is not None and folder != self.pointer("current"):
            self.activate(folder)

    def newer(self) -> Path | None:
        """Return the offered generation if it was never loaded here, else None; costs two short reads."""
        folder, tried = self.pointer("offered"), generation_of(_text(self.folder / "tried"))
        return folder if folder is not None and generation_of(folder.name) > tried else None

    def trying(self, folder: Path) -> None:
        """Remember that `folder` is being loaded, so that nothing is tried twice, not even one that ends the process.

        Raises OSError where the disk refuses, as `want` does.
        """
        _replace(self.folder / "tried", folder.name)

    def ask(self, request: Request) -> None:
        """Leave an operator's request for the policy process."""
        _replace(self.folder / "request", request)

    def asked(self) -> Asked | None:
        """Return what the operator asks for, if anything, until `heard`."""
        file = self.folder / "request"
        text = _text(file)
        if text not in REQUESTS:
            return None
        with suppress(OSError):
            return Asked(text, file.stat().st_mtime_ns)
        return None

    def heard(self) -> None:
        """Take the operator's request away; raises OSError where the disk refuses."""
        (self.folder / "request").unlink(missing_ok=True)

    def adopt(self, artifact: Artifact) -> None:
        """Take a local artifact in as the operator's own act, and start with it; nothing is asked of its signature.

        Whatever is here of it already makes way, since it may be damaged.
        """
        names = (*named_files(artifact.manifest), MANIFEST)
        files = {name: (artifact.path / name).read_bytes() for name in names}
        manifest = files.pop(MANIFEST)
        shutil.rmtree(self._generations / _name(artifact.manifest, manifest), ignore_errors=True)
        for payload in files.values():
            (self._files / sha256(payload)).unlink(missing_ok=True)
        signature = artifact.path / SIGNATURE
        folder = self.add(manifest, signature.read_bytes() if signature.is_file() else b"", files)
        self.raise_floor(artifact.manifest.generation, 0)
        self.point("wanted", folder)  # or the gate would make current again what was made active before
        self.activate(folder)

    def boot(self) -> Artifact | None:
        """Return what a robot starts with: current if it is whole, else previous, else None: it holds."""
        for name in ("current", "previous"):
            folder = self.pointer(name)
            if folder is None:
                continue
            try:
                return read_artifact(folder)
            except ArtifactError:
                continue
        return None

    def tidy(self) -> None:
        """Remove half-written generations, all but the newest and those pointed at, and files that nothing links to."""
        kept = {folder for name in POINTERS if (folder := self.pointer(name)) is not None}
        folders = [item for item in self._generations.iterdir() if not item.name.endswith(".part")]
        kept |= set(sorted(folders, key=lambda folder: generation_of(folder.name))[-KEPT:])
        for folder in self._generations.iterdir():
            if folder not in kept:
                shutil.rmtree(folder)
        for file in self._files.iterdir():
            if file.stat().st_nlink == 1:
                file.unlink()

    def _manifests(self) -> list[Manifest]:
        folders = [item for item in self._generations.iterdir() if not item.name.endswith(".part")]
        return [parse_manifest((folder / MANIFEST).read_bytes(), str(folder)) for folder in folders]


def generation_of(name: str) -> int:
    """Return the generation that a folder of the store with that `name` holds, -1 for a name of none."""
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() else -1


def _name(manifest: Manifest, payload: bytes) -> str:
    return f"{manifest.generation:06d}-{sha256(payload)[:16]}"


def _text(file: Path) -> str:
    """Return the one line in `file`, empty if there is none."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _replace(file: Path, text: str) -> None:
    """Replace the one line in `file` at once, without waiting for the disk."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(text + "\n")
    beside.rename(file)
