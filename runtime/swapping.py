"""An actor whose policy is improved while it drives: takes in verified generations from the store, on trial first."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from poco.artifact import MANIFEST, Artifact, Manifest, parse_manifest, read_artifact
from poco.errors import ArtifactError
from poco.motion import Plan
from poco.noise import NoiseSource
from poco.observation import check_sources
from poco.runtime.actors import Actions, Actor, ChunkFigures, Moment, Rehearse
from poco.runtime.allowance import allowed_s, bytes_of
from poco.runtime.backends.backend import Backend
from poco.runtime.chunk_session import Pixels
from poco.runtime.compiled import CompiledWeights
from poco.runtime.encoder import Encoder, Images, encoder_of
from poco.runtime.opening import open_session
from poco.runtime.store import ArtifactStore, Asked, generation_of
from poco.runtime.swap import ROLLED_BACK, VETOED, Bound, Moved, Slot, SlotState, Swap
from poco.runtime.weights import map_generation
from poco.settings import SwapSettings
from poco.specification import Specification

OPENING_S = 30.0
"""How long opening another graph while the arm rests may take, for one without any weights."""


class SwappingActor(Actor):
    """The policy in use and its successors; policy process only, one thread, everything between two inferences.

    Raises ArtifactError at the start if nothing in the store can run. Later on a generation that cannot be loaded is rejected.
    """

    def __init__(
        self,
        store: ArtifactStore,
        settings: SwapSettings,
        seed: int,
        moved: Callable[[Moved], None],
        task: str = "",
        backend: Backend | None = None,
        compiled: CompiledWeights | None = None,
        silent_for: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`moved` hears of every move, `silent_for` for how long (s) nothing may be heard from here, and that it is over (0)."""
        artifact = store.boot()
        if artifact is None:
            raise ArtifactError(f"the store {store.folder} holds no whole policy: give --policy ARTIFACT to begin with")
        check_sources(artifact.specification)
        self._store, self._tell, self._noise = store, moved, NoiseSource(seed)
        self._task, self._backend, self._compiled = task, backend, compiled
        self._silent_for = silent_for
        self._not_wanted: Path | None = None
        self._given_up = -1
        self._obeyed: Asked | None = None
        self._encoder = encoder_of(artifact, backend)
        bound = self._bind(artifact)
        self._session = bound.session
        self.swap = Swap(settings, Slot(artifact.manifest.generation, artifact.path, bound), self._use, self._moved)
        self._moment: Moment
        self._actions: Actions

    @property
    def specification(self) -> Specification:
        """What all generations have in common."""
        return self.swap.active.bound.artifact.specification

    @property
    def generation(self) -> int:
        """The generation that drives."""
        return self.swap.driver.generation

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those of all generations."""
        return self.swap.active.bound.artifact.cameras

    @property
    def taken_in(self) -> Images | None:
        """Those of the session."""
        return self._session.taken_in

    def images_of(self, frames: tuple[Pixels, ...]) -> Images | None:
        """Return what the session would see."""
        return self._session.images_of(frames)

    @property
    def encoder(self) -> Encoder | None:
        """That of all generations: its hash stands in their specification."""
        return self._encoder

    @property
    def speed(self) -> float:
        """Slower than usual only where the settings want it so for probation."""
        return self.swap.speed

    def choose(self, moment: Moment) -> Actions:
        """Look for what is new, then run the graph on the observation; raises only what the active generation's graph raises."""
        self._turn(resting=moment.chunk == 0)
        self._moment = moment
        self._actions = self._chosen(moment)
        return self._actions

    def meanwhile(self, rehearse: Rehearse, live: Plan) -> None:
        """Run a candidate in shadow on what the last chunk was chosen from; called while that chunk is under way.

        `rehearse` plans a chunk from where the live one began without publishing it; `live` is the live plan.
        """
        candidate = self.swap.candidate
        if not self.swap.wants_shadow or candidate is None:
            return
        driver = self.swap.driver.bound
        self._use(candidate.bound)
        before_s = time.monotonic()
        try:
            actions = self._run(self._moment)
        except Exception as error:  # libraries raise what they like
            self.swap.broken(_failure(error))
            return
        finally:
            seconds = time.monotonic() - before_s
            self._use(driver)
        stretched = rehearse(actions).stretched
        self.swap.shadowed(actions, self._actions, seconds, stretched=stretched, live_stretched=live.stretched)

    def _chosen(self, moment: Moment) -> Actions:
        """Return what the driver chooses; where it cannot, the generation before it takes the arm back."""
        try:
            actions = self._run(moment)
        except Exception as error:  # libraries raise what they like
            if not self.swap.unusable(_failure(error)):
                raise
        else:
            if np.isfinite(actions).all() or not self.swap.unusable("not finite: its chunk cannot be used"):
                return actions
        return self._run(moment)

    def _run(self, moment: Moment) -> Actions:
        noise = self._noise.sample(moment.episode, moment.chunk, self._session.noise_shape)
        return self._session.run(moment.observation, noise, moment.frames)

    def _turn(self, resting: bool) -> None:
        """Obey the operator and take in an offer; a graph that is not the running one only while the arm rests."""
        self._obey()
        if self._not_wanted is not None:
            self._want(self._not_wanted)
        folder = self._store.newer()
        if folder is None or generation_of(folder.name) <= self._given_up:
            self._take_compiled()
            return
        if self.swap.candidate and self.swap.candidate.state == SlotState.PROBATION:
            return
        try:
            slot = self._load(folder, resting)
        except Exception as error:  # libraries raise what they like
            self._give_up(folder, error)
            return
        if slot is not None:
            self.swap.load(slot)

    def _obey(self) -> None:
        """Do what the operator asks, once, also where the disk does not let go of the request."""
        asked = self._store.asked()
        if asked is None or asked == self._obeyed:
            return
        self._obeyed, stays = asked, ""
        try:
            self._store.heard()
        except OSError as error:
            stays = f", whose request stays ({error.strerror}): repair the disk of {self._store.folder}"
        match asked.request:
            case "veto":
                self.swap.veto(f"{VETOED}{stays}")
            case "rollback":
                self.swap.roll_back(f"{ROLLED_BACK}{stays}")

    def _give_up(self, folder: Path, error: Exception) -> None:
        """Reject what could not be loaded; where the disk cannot remember that, at least this process does not try it again."""
        self._given_up = generation_of(folder.name)
        with suppress(OSError):
            self._store.trying(folder)
        self._tell(Moved(self._given_up, SlotState.VERIFIED, SlotState.REJECTED, f"not loaded: {error}"))

    def _want(self, folder: Path) -> str:
        """Ask that the robot start with the generation in `folder` from now on; where the disk refuses, say why and do it later."""
        try:
            self._store.want(folder)
        except OSError as error:
            self._not_wanted = folder
            return f"not yet what the robot starts with ({error.strerror}): free space in {self._store.folder}"
        self._not_wanted = None
        return ""

    def _take_compiled(self) -> None:
        """Try out the compiled weights of the active generation, if they are open; whatever is newer goes before them."""
        active = self.swap.active
        if self._compiled is None or self.swap.candidate is not None or active.inputs is not None:
            return
        try:
            bound = self._compiled.ready(active.folder)
        except Exception as error:  # libraries raise what they like
            reason = f"not opened: {_failure(error)}"
            self._tell(Moved(active.generation, SlotState.VERIFIED, SlotState.REJECTED, reason, "compiled"))
            return
        if bound is not None:
            self.swap.load(Slot(active.generation, active.folder, bound, inputs=active))

    def _load(self, folder: Path, resting: bool) -> Slot | None:
        """Return the generation in `folder` with its weights bound, None where it has to wait for the arm to rest."""
        manifest, active = parse_manifest((folder / MANIFEST).read_bytes(), str(folder)), self.swap.active.plain.bound
        if manifest.vla is not None and manifest.vla.cameras_used != self.cameras:
            raise ArtifactError(
                f"it sees {', '.join(manifest.vla.cameras_used)}, this run {', '.join(self.cameras)}: begin another"
            )
        alike = _runs_alike(manifest, active.artifact.manifest)
        if not alike and not resting:
            return None
        self._store.trying(folder)
        if alike:
            tensors = map_generation(folder, manifest, active.artifact)
            bound = Bound(active.session, active.session.prepare(tensors), active.artifact)
        else:
            self._silent_for(allowed_s(OPENING_S, bytes_of([folder])))
            try:
                bound = self._bind(read_artifact(folder))
            finally:
                self._silent_for(0.0)
        return Slot(manifest.generation, folder, bound)

    def _bind(self, artifact: Artifact) -> Bound:
        """Return `artifact` under a session of its own, warmed up; raises ArtifactError."""
        session = open_session(artifact, self._task, self._backend)
        session.warm_up()
        return Bound(session, session.prepare(artifact.tensors), artifact)

    def _use(self, bound: Bound) -> None:
        self._session = bound.session
        self._session.rebind(bound.binding)

    def _moved(self, moved: Moved) -> None:
        if moved.after == SlotState.ACTIVE and moved.weights is None:
            slot = self.swap.active if self.swap.candidate is None else self.swap.candidate
            reasons = filter(None, (moved.reason, self._want(slot.folder)))
            moved = replace(moved, reason="; ".join(reasons))
        self._tell(moved)

    def chunk(self, figures: ChunkFigures) -> None:
        """Take in how the last chunk went."""
        self.swap.chunk(figures)

    def episode(self, success: bool, fault: bool) -> None:
        """Take in how the episode ended."""
        self.swap.episode(success, fault)

    def helped_episode(self) -> None:
        """Leave out an episode that a person helped in."""
        self.swap.helped_episode()


def _failure(error: Exception) -> str:
    """Return in one line why a generation could not be run."""
    return f"failed: {' '.join(str(error).split())[:200] or type(error).__name__}"


def _runs_alike(one: Manifest, other: Manifest) -> bool:
    """Tell whether the one's tensors may be bound where the other runs."""
    rules = [None if manifest.vla is None else manifest.vla.rules for manifest in (one, other)]
    return one.graph_hash == other.graph_hash and rules[0] == rules[1]
