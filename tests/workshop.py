"""A learner's workshop and a robot that knows its keys: makes offers, good and bad, for the tests of gate, store and swap."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from poco.artifact import Artifact, Manifest
from poco.offer import Offer
from poco.records import ROBOT_STATE, TaskSignal
from poco.runtime.actors import Moment
from poco.runtime.gate import GateRules
from poco.runtime.run_flags import PACKAGED_CONFIG
from poco.runtime.run_options import RunOptions
from poco.runtime.session import Session
from poco.runtime.store import ArtifactStore
from poco.settings import read_settings
from poco.succession import Floats, Successor, next_generation
from poco.trust import FORMAT, VERSION, Publisher, Purpose, Trust, TrustList, public_key, sign, write_trust

FAR_UNIX_S = 4_000_000_000
SIGNAL = TaskSignal(
    tick=0, target_position=(0.0, 0.0, 0.0), target_yaw=0.0, noise_m=0.0, noise_rad=0.0, outcome="running"
)


def seen(episode: int, chunk: int, observation: Floats) -> Moment:
    """A moment of which only `observation` matters."""
    return Moment(episode, chunk, observation, np.zeros((), ROBOT_STATE), SIGNAL)


def trust_list(key: Ed25519PrivateKey, revision: int = 1, **changes: Any) -> TrustList:
    """A list with one publisher."""
    publisher = Publisher(name="learner", key=public_key(key), expires_unix_s=FAR_UNIX_S, generation_max=10_000)
    return TrustList(
        format=FORMAT,
        version=VERSION,
        revision=revision,
        publishers=(msgspec.structs.replace(publisher, **changes),),
    )


@dataclass
class Workshop:
    """One artifact, the keys that publish it, and the store of a robot that runs it."""

    artifact: Artifact
    folder: Path
    root: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    retired: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        self.list_publishers("trust", 1)
        self.store = ArtifactStore(self.folder / "store")
        self.rules = GateRules.of(self.options)

    @property
    def options(self) -> RunOptions:
        """A run on that robot."""
        overrides = {"swap.trust": str(self.folder / "trust"), "swap.store": str(self.store.folder)}
        overrides["swap.offer_bytes_max"], overrides["swap.generation_span"] = str(1 << 26), "100"
        return RunOptions(
            settings=read_settings(PACKAGED_CONFIG, overrides),
            policy=str(self.artifact.path),
            episodes=1,
            speed=1.0,
            seed=0,
            recover=False,
            run_name="workshop",
            boot_epoch=1,
            folder=str(self.folder / "run"),
            keep_minutes=1,
        )

    def list_publishers(self, name: str, revision: int) -> Path:
        """Write list number `revision`, with the key in force and the retired one, into the folder `name` and return it."""
        listed = trust_list(self.key, revision)
        retired = msgspec.structs.replace(
            listed.publishers[0], name="retired", key=public_key(self.retired), expires_unix_s=1
        )
        listed = msgspec.structs.replace(listed, publishers=(*listed.publishers, retired))
        write_trust(self.folder / name, listed, self.root)
        return self.folder / name

    @property
    def trust(self) -> Trust:
        """The list as the robot reads it."""
        return Trust.read(self.folder / "trust", self.store.floor.trust_revision)

    def trained(self, seed: int) -> dict[str, Floats]:
        """Weights a little away from the artifact's, as an update makes them."""
        random = np.random.default_rng(seed)
        return {
            key: (
                tensor.astype(np.float64) + 0.01 * random.standard_normal(tensor.shape) * (key not in ("mean", "std"))
            ).astype(np.float32)
            for key, tensor in self.artifact.tensors.items()
        }

    def golden(self, trained: Mapping[str, Floats]) -> dict[str, npt.NDArray[np.generic]]:
        """Golden vectors that `trained` really gives, with what was seen as it was."""
        session = Session(self.artifact)
        session.rebind(session.prepare(dict(trained)))
        observation, noise = (self.artifact.golden[name].astype(np.float32) for name in ("observation", "noise"))
        chunk = np.stack([session.run(*case) for case in zip(observation, noise, strict=True)])
        seen = {name: tensor for name, tensor in self.artifact.golden.items() if name in ("images", "state")}
        return {**seen, "observation": observation, "noise": noise, "chunk": chunk}

    def offer(self, generation: int, seed: int | None = None, **changes: Any) -> Offer:
        """A sound offer of `generation`; `changes` replace what a Successor holds."""
        trained = changes.pop("trained", None) or self.trained(generation if seed is None else seed)
        successor = Successor(
            trained=trained,
            golden=changes.pop("golden", None) or self.golden(trained),
            generation=generation,
            expires_unix_s=changes.pop("expires_unix_s", int(time.time()) + 3600),
            metrics={},
        )
        return next_generation(changes.pop("ancestor", self.ancestor), successor, changes.pop("key", self.key))

    @property
    def ancestor(self) -> Manifest:
        """The manifest that the first offer descends from."""
        return msgspec.structs.replace(self.artifact.manifest, generation=0)

    def first(self) -> Offer:
        """The whole artifact, graph included, as generation 1."""
        offer = self.offer(1, trained=dict(self.artifact.tensors))
        return Offer(offer.manifest, offer.signature, {**self.graph_files(), **offer.files})

    def graph_files(self) -> dict[str, bytes]:
        """The graph's file by name."""
        return {graph.file: self.artifact.graphs[graph.name] for graph in self.artifact.manifest.graphs}

    def resign(self, offer: Offer, change: Callable[[dict[str, Any]], None], **files: bytes) -> Offer:
        """`offer` with a manifest that `change` altered and signed again with the right key, and other `files`."""
        document = msgspec.json.decode(offer.manifest)
        change(document)
        payload = msgspec.json.encode(document)
        return Offer(payload, sign(payload, Purpose.ARTIFACT, self.key), {**offer.files, **files})
