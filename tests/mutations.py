"""Damaged offers by kind: some as an attacker on the way makes them, some signed again with the right key afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import load, save

from poco.artifact import graph_hash, sha256
from poco.offer import Offer
from poco.refusal import Reason
from poco.specification import Specification
from poco.trust import Purpose, sign
from workshop import Workshop

Document = dict[str, Any]
Random = np.random.Generator
Mutation = Callable[[Workshop, Offer, Random], Offer]

TRAINED, GOLDEN, GRAPH = "trained.safetensors", "golden.safetensors", "policy.onnx"
BAD_OPERATORS = ("RandomNormalLike", "If", "Loop", "SequenceConstruct", "StringNormalizer", "Optional", "Bernoulli")


def with_file(workshop: Workshop, offer: Offer, name: str, payload: bytes) -> Offer:
    """`offer` with another content of a file that the newly signed manifest names correctly."""

    def change(document: Document) -> None:
        for item in (*document["graphs"], *document["tensors"]):
            if item["file"] == name:
                item["sha256"] = sha256(payload)
        if name == GRAPH:
            document["graph_hash"] = graph_hash({document["graphs"][0]["name"]: payload})

    return workshop.resign(offer, change, **{name: payload})


def with_tensors(change: Callable[[dict[str, Any], Random], None]) -> Mutation:
    """A mutation of the trained tensors, signed again."""

    def mutate(workshop: Workshop, offer: Offer, random: Random) -> Offer:
        tensors: dict[str, Any] = {key: value.copy() for key, value in load(offer.files[TRAINED]).items()}
        change(tensors, random)
        return with_file(workshop, offer, TRAINED, save(tensors))

    return mutate


def with_manifest(change: Callable[[Document, Random], None]) -> Mutation:
    """A mutation of the manifest, signed again."""

    def mutate(workshop: Workshop, offer: Offer, random: Random) -> Offer:
        return workshop.resign(offer, lambda document: change(document, random))

    return mutate


def any_key(tensors: dict[str, Any], random: Random) -> str:
    return str(random.choice(sorted(tensors)))


def reshape(tensors: dict[str, Any], random: Random) -> None:
    key = any_key(tensors, random)
    shape = [*tensors[key].shape]
    shape[int(random.integers(len(shape)))] += int(random.integers(1, 5))
    tensors[key] = np.zeros(shape, np.float32)


def retype(tensors: dict[str, Any], random: Random) -> None:
    key = any_key(tensors, random)
    tensors[key] = tensors[key].astype(random.choice(["float64", "float16", "int32"]))


def poison(tensors: dict[str, Any], random: Random) -> None:
    key = any_key(tensors, random)
    tensors[key].ravel()[int(random.integers(tensors[key].size))] = random.choice([np.nan, np.inf, -np.inf, 1e30])


def lose(tensors: dict[str, Any], random: Random) -> None:
    del tensors[any_key(tensors, random)]


def invent(tensors: dict[str, Any], random: Random) -> None:
    tensors[f"invented_{int(random.integers(1000))}"] = np.zeros(3, np.float32)


def other_statistics(tensors: dict[str, Any], random: Random) -> None:
    tensors["mean"] = tensors["mean"] + np.float32(random.uniform(0.5, 2.0))


def other_specification(document: Document, random: Random) -> None:
    document["specification"]["rest_q"][int(random.integers(7))] += float(random.uniform(0.01, 0.1))
    specification = msgspec.convert(document["specification"], Specification)
    document["specification_hash"] = specification.digest()


def other_robot(document: Document, random: Random) -> None:
    document["robot_model"] = str(random.choice(["panda", "ur5e", "fr3v2"]))


def old_generation(document: Document, random: Random) -> None:
    document["generation"] = int(random.integers(-5, 2))


def far_generation(document: Document, random: Random) -> None:
    document["generation"] = int(random.integers(1000, 2**40))


def past_expiry(document: Document, random: Random) -> None:
    document["expires_unix_s"] = None if random.random() < 0.5 else int(random.integers(1_700_000_000))


def unknown_field(document: Document, random: Random) -> None:
    document[f"field_{int(random.integers(1000))}"] = 1


def lost_file(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    lost = str(random.choice(sorted(offer.files)))
    kept = {name: payload for name, payload in offer.files.items() if name != lost}
    return Offer(offer.manifest, offer.signature, kept)


def surplus_file(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    name = str(random.choice(["sitecustomize.py", "engine.plan", "..", "extra.safetensors"]))
    return Offer(offer.manifest, offer.signature, {**offer.files, name: random.bytes(20)})


def mixed_files(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    other = workshop.offer(2, seed=int(random.integers(3, 9)))
    name = str(random.choice([TRAINED, GOLDEN]))
    return Offer(offer.manifest, offer.signature, {**offer.files, name: other.files[name]})


def large_header(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    header = b"{" + b" " * (2 << 20) + b"}"
    return with_file(workshop, offer, TRAINED, len(header).to_bytes(8, "little") + header)


def false_golden(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    golden = {key: value.copy() for key, value in load(offer.files[GOLDEN]).items()}
    golden["chunk"].ravel()[int(random.integers(golden["chunk"].size))] += np.float32(random.uniform(0.01, 0.5))
    return with_file(workshop, offer, GOLDEN, save(golden))


def bad_operator(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    model = onnx.load_model_from_string(workshop.graph_files()[GRAPH])
    node = model.graph.node[int(random.integers(len(model.graph.node)))]
    node.op_type = str(random.choice(BAD_OPERATORS))
    return with_file(workshop, offer, GRAPH, model.SerializeToString())


def garbled_graph(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    payload = bytearray(workshop.graph_files()[GRAPH])
    first = int(random.integers(len(payload) - 64))
    payload[first : first + 64] = random.bytes(64)
    return with_file(workshop, offer, GRAPH, bytes(payload))


def flipped_manifest(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    return Offer(flipped(offer.manifest, random), offer.signature, offer.files)


def flipped_signature(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    return Offer(offer.manifest, flipped(offer.signature, random), offer.files)


def flipped_file(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    name = str(random.choice(sorted(offer.files)))
    return Offer(offer.manifest, offer.signature, {**offer.files, name: flipped(offer.files[name], random)})


def stranger(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    return Offer(offer.manifest, sign(offer.manifest, Purpose.ARTIFACT, Ed25519PrivateKey.generate()), offer.files)


def torn_signature(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    return Offer(offer.manifest, offer.signature[: int(random.integers(len(offer.signature)))], offer.files)


def retired_key(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    return Offer(offer.manifest, sign(offer.manifest, Purpose.ARTIFACT, workshop.retired), offer.files)


def disconnected_graph(workshop: Workshop, offer: Offer, random: Random) -> Offer:
    model = onnx.load_model_from_string(workshop.graph_files()[GRAPH])
    node = model.graph.node[int(random.integers(len(model.graph.node)))]
    node.input[int(random.integers(len(node.input)))] = f"nowhere_{int(random.integers(1000))}"
    return with_file(workshop, offer, GRAPH, model.SerializeToString())


def flipped(payload: bytes, random: Random) -> bytes:
    changed = bytearray(payload)
    changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
    return bytes(changed)


ON_THE_WAY: dict[str, tuple[Mutation, frozenset[Reason]]] = {
    "flipped_manifest": (flipped_manifest, frozenset({Reason.BAD_SIGNATURE})),
    "flipped_signature": (flipped_signature, frozenset({Reason.BAD_SIGNATURE, Reason.UNSIGNED, Reason.UNKNOWN_KEY})),
    "flipped_file": (flipped_file, frozenset({Reason.WRONG_HASH})),
    "mixed_files": (mixed_files, frozenset({Reason.WRONG_HASH})),
    "lost_file": (lost_file, frozenset({Reason.MISSING_FILE})),
    "surplus_file": (surplus_file, frozenset({Reason.EXTRANEOUS_FILE})),
    "stranger": (stranger, frozenset({Reason.UNKNOWN_KEY})),
    "torn_signature": (torn_signature, frozenset({Reason.UNSIGNED})),
}
"""Mutations without the key, and the reasons they may be refused with."""

SIGNED_AGAIN: dict[str, tuple[Mutation, frozenset[Reason]]] = {
    "shape": (with_tensors(reshape), frozenset({Reason.WRONG_TENSORS})),
    "type": (with_tensors(retype), frozenset({Reason.WRONG_TENSORS})),
    "poison": (with_tensors(poison), frozenset({Reason.NOT_FINITE})),
    "lost_tensor": (with_tensors(lose), frozenset({Reason.WRONG_TENSORS})),
    "invented_tensor": (with_tensors(invent), frozenset({Reason.WRONG_TENSORS})),
    "statistics": (with_tensors(other_statistics), frozenset({Reason.GOLDEN})),
    "golden": (false_golden, frozenset({Reason.GOLDEN})),
    "specification": (with_manifest(other_specification), frozenset({Reason.WRONG_SPECIFICATION})),
    "robot": (with_manifest(other_robot), frozenset({Reason.WRONG_ROBOT})),
    "old_generation": (with_manifest(old_generation), frozenset({Reason.ROLLBACK})),
    "far_generation": (with_manifest(far_generation), frozenset({Reason.FAST_FORWARD})),
    "expiry": (with_manifest(past_expiry), frozenset({Reason.EXPIRED})),
    "unknown_field": (with_manifest(unknown_field), frozenset({Reason.MALFORMED})),
    "size": (large_header, frozenset({Reason.TOO_LARGE})),
    "retired_key": (retired_key, frozenset({Reason.KEY_EXPIRED})),
}
"""Mutations by somebody who holds the key, and the reasons they may be refused with."""

NEW_GRAPHS: dict[str, tuple[Mutation, frozenset[Reason]]] = {
    "operator": (bad_operator, frozenset({Reason.OPERATOR})),
    "disconnected_graph": (disconnected_graph, frozenset({Reason.GRAPH})),
    "garbled_graph": (garbled_graph, frozenset({Reason.GRAPH, Reason.OPERATOR, Reason.GOLDEN})),
}
"""Mutations of the graph by somebody who holds the key; each costs a child process."""
