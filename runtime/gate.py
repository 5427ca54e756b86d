"""The gate: what an offered policy must pass before the policy process hears of it; a low-priority process of its own.

Started by the supervisor as `python -m poco.runtime.gate` with the options of the run. It takes the newest offer from the folder
`incoming` of the store, examines it, stores what passes and points `offered` at it. Every verdict is a line of `verdicts.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from poco.artifact import Artifact, Manifest, assemble, named_files, parse_manifest, write_signed
from poco.errors import ArtifactError, PocoError, exit_with
from poco.offer import Offer, unpack_offer
from poco.refusal import Reason, Refused
from poco.runtime.allowance import allowed_s
from poco.runtime.encoder import encoder_of
from poco.runtime.incoming import newest_offer
from poco.runtime.opening import open_session
from poco.runtime.process_arguments import process_arguments
from poco.runtime.run_options import RunOptions
from poco.runtime.store import ArtifactStore
from poco.trust import Publisher, Trust

POLL_S = 0.02
NICE = 10
GRAPH_CHECK_S = 60.0
"""How long a child process may look at a new graph, and longer by the size of its policy (`allowance`)."""

VERDICTS_FILE = "verdicts.jsonl"


class GateRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an offer must fit: the robot and its task, size (bytes) and how far a generation may be ahead of the newest taken."""

    robot_model: str
    specification_hash: str
    bytes_max: int
    generation_span: int

    @classmethod
    def of(cls, options: RunOptions) -> GateRules:
        """Return the rules of the run with `options`."""
        specification, swap = options.specification(), options.settings.swap
        return cls(
            robot_model=specification.robot,
            specification_hash=specification.digest(),
            bytes_max=swap.offer_bytes_max,
            generation_span=swap.generation_span,
        )


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of one offer; `reason` is empty for one that passed, `folder` names it in the store then."""

    unix_s: float
    generation: int
    publisher: str = ""
    reason: str = ""
    sentence: str = ""
    folder: str = ""
    examined_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Passed:
    """An offer that may run on this robot, with what it was made of and by whom."""

    artifact: Artifact
    publisher: Publisher
    offer: Offer


def examine(offer: Offer, store: ArtifactStore, trust: Trust, rules: GateRules, now_unix_s: float) -> Passed:
    """Return `offer` as an artifact that may run, or raise Refused with the first reason against it.

    Order: signature, schema, generation, expiry, robot and specification, files, hashes, tensors, graph, golden vectors.
    Nothing of an offer is interpreted before its manifest's signature is known to be good.
    """
    publisher = trust.publisher(offer.manifest, offer.signature, now_unix_s)
    manifest = parse_manifest(offer.manifest, "the offer")
    _check_generation(manifest, publisher, store.floor.generation, rules)
    _check_target(manifest, rules, now_unix_s)
    files = _files(offer, manifest, store)
    artifact = assemble(Path(f"generation-{manifest.generation}"), manifest, files)
    if not store.knows_graph(manifest.graph_hash):
        check_graph(offer.manifest, files)
    try:
        encoder_of(artifact)
        open_session(artifact)
    except Refused:
        raise
    except ArtifactError as error:
        raise Refused(Reason.GRAPH, str(error)) from error
    return Passed(artifact, publisher, offer)


def judge(offer: Offer, store: ArtifactStore, trust: Trust, rules: GateRules) -> Verdict:
    """Examine `offer`, store it and raise the floor if it passes; the gate process calls it and never raises for an offer."""
    began_s, now_unix_s = time.monotonic(), time.time()
    try:
        passed = examine(offer, store, trust, rules, now_unix_s)
    except Refused as refused:
        return Verdict(
            unix_s=now_unix_s,
            generation=_claimed_generation(offer),
            reason=refused.reason,
            sentence=str(refused),
            examined_ms=1e3 * (time.monotonic() - began_s),
        )
    generation = passed.artifact.manifest.generation
    folder = store.add(offer.manifest, offer.signature, offer.files)
    store.raise_floor(generation, trust.listed.revision)
    store.point("offered", folder)
    store.tidy()
    return Verdict(
        unix_s=now_unix_s,
        generation=generation,
        publisher=passed.publisher.name,
        folder=folder.name,
        examined_ms=1e3 * (time.monotonic() - began_s),
    )


def check_graph(manifest: bytes, files: Mapping[str, bytes]) -> None:
    """Have a child process without keys and with little memory and time open a graph that was never seen here; raises Refused.

    A graph that crashes, hangs or eats memory does so there; how much of both it may take follows from the size of `files`.
    """
    limit_s = allowed_s(GRAPH_CHECK_S, sum(map(len, files.values())))
    with tempfile.TemporaryDirectory(prefix="poco-gate-") as folder:
        write_signed(Path(folder), manifest, files)
        command = [sys.executable, "-m", "poco.runtime.graph_check", folder]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=limit_s, env=environment, cwd=folder, check=False
            )
        except subprocess.TimeoutExpired:
            raise Refused(
                Reason.GRAPH, f"the new graph was not open after {limit_s:.0f} s: export a smaller one"
            ) from None
    if done.returncode != 0:
        raise _told(done.stdout, done.returncode)


def _told(output: bytes, returncode: int) -> Refused:
    """Return what the child said against a graph, or how it died of it."""
    try:
        told = json.loads(output.splitlines()[-1])
        return Refused(Reason(told["reason"]), str(told["sentence"]))
    except (IndexError, ValueError, KeyError, TypeError):
        how = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
        return Refused(Reason.GRAPH, f"the new graph ended the process that opened it with {how}: do not run it")


def _check_generation(manifest: Manifest, publisher: Publisher, floor: int, rules: GateRules) -> None:
    generation = manifest.generation
    if generation <= floor:
        raise Refused(
            Reason.ROLLBACK,
            f"the offer has generation {generation}, this robot has taken {floor}: offer a higher one",
        )
    highest = min(floor + rules.generation_span, publisher.generation_max)
    if generation > highest:
        raise Refused(
            Reason.FAST_FORWARD,
            f"the offer has generation {generation}, at most {highest} is due here: publish the next one, or raise the limit",
        )


def _check_target(manifest: Manifest, rules: GateRules, now_unix_s: float) -> None:
    expires = manifest.expires_unix_s
    if expires is None or now_unix_s >= expires:
        age = "has no expiry" if expires is None else f"expired {now_unix_s - expires:.0f} s ago"
        raise Refused(Reason.EXPIRED, f"the offer {age}: publish it again with a new one, or set this computer's clock")
    if manifest.robot_model != rules.robot_model:
        raise Refused(
            Reason.WRONG_ROBOT,
            f"the offer is for a {manifest.robot_model}, this robot is a {rules.robot_model}: publish for it",
        )
    if manifest.specification_hash != rules.specification_hash:
        raise Refused(
            Reason.WRONG_SPECIFICATION,
            f"the offer has specification {manifest.specification_hash[:12]}, this robot runs {rules.specification_hash[:12]}: "
            "start the run with an artifact of the new one",
        )


def _files(offer: Offer, manifest: Manifest, store: ArtifactStore) -> Mapping[str, bytes]:
    """Return what the manifest names, from the offer or, where it was left out, from the store, and whatever else was offered."""
    here = {
        name: store.read_file(digest)
        for name, digest in named_files(manifest).items()
        if name not in offer.files and store.holds(digest)
    }
    return {**offer.files, **here}


def _claimed_generation(offer: Offer) -> int:
    """Return the generation an offer says it has, or 0; for the record only."""
    try:
        return parse_manifest(offer.manifest, "the offer").generation
    except ArtifactError:
        return 0


def watch(store: ArtifactStore, trust_folder: Path, rules: GateRules) -> None:
    """Judge the newest offer whenever there is one, until the process that started this one is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        store.fulfil()
        packed = newest_offer(store.folder, rules.bytes_max)
        if packed is None:
            time.sleep(POLL_S)
            continue
        verdict = judge_packed(packed, store, trust_folder, rules)
        with (store.folder / VERDICTS_FILE).open("ab") as stream:
            stream.write(msgspec.json.encode(verdict) + b"\n")
        if verdict.reason:
            print(f"note generation {verdict.generation} is refused ({verdict.reason}): {verdict.sentence}", flush=True)


def read_verdicts(store: Path) -> list[Verdict]:
    """Return what was said of every offer to the store in the folder `store`, in order; the process may be writing meanwhile."""
    file = store / VERDICTS_FILE
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    return [msgspec.json.decode(line, type=Verdict) for line in lines if line.endswith(b"\n")]


def judge_packed(packed: bytes, store: ArtifactStore, trust_folder: Path, rules: GateRules) -> Verdict:
    """Judge the offer in `packed` under the trust list as it is on the disk now, so that a revoked key ends at once."""
    try:
        trust = Trust.read(trust_folder, store.floor.trust_revision)
        return judge(unpack_offer(packed, rules.bytes_max), store, trust, rules)
    except Refused as refused:
        return Verdict(unix_s=time.time(), generation=0, reason=refused.reason, sentence=str(refused))


def main() -> None:
    """Entry point of the gate process; arguments come from the supervisor."""
    _, options = process_arguments(argparse.ArgumentParser(description=__doc__))
    os.nice(NICE)
    try:
        trust = Path(options.settings.swap.trust).expanduser()
        watch(ArtifactStore(options.store), trust, GateRules.of(options))
    except PocoError as error:
        exit_with(error)


if __name__ == "__main__":
    main()
