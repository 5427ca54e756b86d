"""Engines on disk, for their owner only: each belongs to one graph, one library and version, one GPU and one driver.

```
<key>.plan    the engine
<key>.json    this module's EngineFacts, with the plan's sha256
timing-<...>  what TensorRT has measured on this GPU, so that the next build is quicker
```
An engine is code that runs: files that others could have written are refused, not loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from poco.artifact import sha256
from poco.engines.build import ARITHMETIC, Library, build_engine, load_library
from poco.engines.device import Device
from poco.errors import ArtifactError
from poco.owned import check_owner, write_owned

DEFAULT_FOLDER = "~/.cache/poco/engines"


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engine is for, beside its graph."""

    library: Library
    version: str
    device: Device


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names one engine: its graph by file and hash, its target, its own hash and size, and how long it took to build."""

    graph: str
    graph_sha256: str
    target: Target
    plan_sha256: str
    plan_bytes: int
    built_s: float


def target_of(library: Library, device: Device) -> Target:
    """Return the target on this computer; raises ArtifactError where the library is not installed."""
    return Target(library=library, version=str(load_library(library).__version__), device=device)


class EngineCache:
    """The engines in one folder, "" for the usual one; policy process before motion and exporter."""

    def __init__(self, folder: str = "") -> None:
        """Make or open the folder; raises ArtifactError if it is not its owner's alone."""
        self.folder = Path(folder or DEFAULT_FOLDER).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_owner(self.folder)

    def engine(
        self, graph: str, payload: bytes, target: Target, told: Callable[[str], None] | None = None
    ) -> tuple[bytes, EngineFacts]:
        """Return the engine of `payload`, the graph in the file `graph`, for `target`.

        Where it is not there it is built, if `told` is given, which hears of it first. Raises ArtifactError where it is not there,
        cannot be built or was tampered with.
        """
        digest = sha256(payload)
        key = sha256(msgspec.json.encode((digest, target, ARITHMETIC)))[:32]
        plan_file, facts_file = self.folder / f"{key}.plan", self.folder / f"{key}.json"
        if facts_file.exists():
            facts = self._facts(facts_file)
            plan = _read(plan_file)
            if sha256(plan) != facts.plan_sha256:
                raise ArtifactError(
                    f"engine {plan_file} is damaged (its sha256 is another one): delete it, it is built again"
                )
            return plan, facts
        if told is None:
            raise ArtifactError(self._why_not(graph, digest, target))
        told(
            f"{target.library} {target.version} builds the engine of {graph} ({len(payload) / 1e6:.1f} MB) for {target.device.name}"
        )
        timing_file = self.folder / f"timing-{sha256(msgspec.json.encode(target))[:32]}"
        timing = _read(timing_file) if timing_file.exists() else b""
        began_s = time.monotonic()
        plan, timing = build_engine(target.library, payload, graph, timing)
        facts = EngineFacts(
            graph=graph,
            graph_sha256=digest,
            target=target,
            plan_sha256=sha256(plan),
            plan_bytes=len(plan),
            built_s=round(time.monotonic() - began_s, 3),
        )
        for file, content in ((plan_file, plan), (timing_file, timing), (facts_file, msgspec.json.encode(facts))):
            if content:
                write_owned(file, content)
        return plan, facts

    def _why_not(self, graph: str, digest: str, target: Target) -> str:
        """Return why there is no engine: none at all, or one for another library, GPU or driver."""
        asked = f"{target.library} {target.version} on {target.device.name} with driver {target.device.driver}"
        others = [
            facts.target
            for facts in map(self._facts, sorted(self.folder.glob("*.json")))
            if facts.graph_sha256 == digest
        ]
        remedy = "run poco-export engine ARTIFACT on this computer"
        if not others:
            return f"there is no engine of {graph} for {asked}: {remedy}"
        other = others[-1]
        return (
            f"the engine of {graph} was built for {other.library} {other.version} on {other.device.name} with driver "
            f"{other.device.driver}, this is {asked}: {remedy}"
        )

    def _facts(self, file: Path) -> EngineFacts:
        try:
            return msgspec.json.decode(_read(file), type=EngineFacts)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{file} does not name an engine ({error}): delete it") from error


def _read(file: Path) -> bytes:
    """Return the content of `file`; raises ArtifactError unless it is its owner's alone."""
    if not file.is_file():
        raise ArtifactError(f"{file} is missing: delete what else is left of that engine, it is built again")
    check_owner(file)
    return file.read_bytes()
