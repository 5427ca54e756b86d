"""Generation after generation of one policy, signed with keys made for the occasion and left for the gate of a run."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from poco.artifact import Artifact
from poco.clock import monotonic_ns
from poco.errors import PocoError
from poco.runtime.incoming import leave_offer
from poco.runtime.session import Session
from poco.runtime.store import ArtifactStore
from poco.succession import Floats, Successor, next_generation
from poco.trust import FORMAT, VERSION, Publisher, TrustList, public_key, write_trust

LIFETIME_S = 86_400
DRIVES_LIMIT_S = 30.0
LOOK_S = 0.002
GENERATIONS_MAX = 1_000_000


class OfferMaker:
    """Signs generation after generation of one artifact and leaves them in the store of the run."""

    def __init__(self, artifact: Artifact, folder: Path) -> None:
        self._artifact, self._key = artifact, Ed25519PrivateKey.generate()
        self.trust, self.store = folder / "trust", ArtifactStore(folder / "store")
        publisher = Publisher(
            name="bench",
            key=public_key(self._key),
            expires_unix_s=int(time.time()) + LIFETIME_S,
            generation_max=GENERATIONS_MAX,
        )
        listed = TrustList(format=FORMAT, version=VERSION, revision=1, publishers=(publisher,))
        write_trust(self.trust, listed, Ed25519PrivateKey.generate())
        self._session, self._parent = Session(artifact), artifact.manifest
        self.offered_ns: dict[int, int] = {}
        self._next = self._make()

    def swap(self) -> None:
        """Offer the next generation and wait until it drives; raises PocoError if it does not come to that."""
        generation = self._parent.generation
        self.offered_ns[generation] = monotonic_ns()
        leave_offer(self.store.folder, self._next)
        self._next = self._make()
        deadline_s = time.monotonic() + DRIVES_LIMIT_S
        while not self._drives(generation):
            if time.monotonic() > deadline_s:
                raise PocoError(
                    f"generation {generation} does not drive after {DRIVES_LIMIT_S:g} s: look at events and gate.log of the run"
                )
            time.sleep(LOOK_S)

    def _drives(self, generation: int) -> bool:
        folder = self.store.pointer("wanted")
        return folder is not None and int(folder.name.split("-")[0]) >= generation

    def weights(self, generation: int) -> dict[str, Floats]:
        """Return those of `generation`: the artifact's own, or each moved by a thousandth of its size, in its own direction."""
        own = {key: tensor.astype(np.float32) for key, tensor in self._artifact.tensors.items()}
        if generation not in self.offered_ns:
            return own
        random = np.random.default_rng(generation)
        return {
            key: tensor * (1.0 + 1e-3 * random.standard_normal(tensor.shape, np.float32)).astype(np.float32)
            for key, tensor in own.items()
        }

    def _make(self) -> bytes:
        """Return the generation after the newest."""
        generation = self._parent.generation + 1
        self.offered_ns[generation] = 0
        trained = self.weights(generation)
        self._session.rebind(self._session.prepare(dict(trained)))
        observation, noise = (self._artifact.golden[name].astype(np.float32) for name in ("observation", "noise"))
        chunk = np.stack([self._session.run(*case) for case in zip(observation, noise, strict=True)])
        successor = Successor(
            trained=trained,
            golden={"observation": observation, "noise": noise, "chunk": chunk},
            generation=generation,
            expires_unix_s=int(time.time()) + LIFETIME_S,
            metrics={},
        )
        offer = next_generation(self._parent, successor, self._key)
        self._parent = msgspec.structs.replace(self._parent, generation=generation)
        return offer.pack()
