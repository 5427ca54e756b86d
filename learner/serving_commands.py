"""`poco-learner serve`: the learner as a service of robots."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from poco.errors import ArtifactError, UsageError
from poco.learner.training_commands import at_least_one, not_negative, read_recipe

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from poco.artifact import Artifact
    from poco.learner.checkpoint import Checkpoint
    from poco.learner.learning import Run
    from poco.learner.recipe import TrainingSettings
    from poco.learner.service import Service
    from poco.learner.service_panel import Board
    from poco.learner.training_state import TrainingState
    from poco.views import Shown
    from poco.vla import Vla

ADDRESS = "tcp://127.0.0.1:7766"
SIGNING_KEY = Path("~/.config/poco/trust/learner.key")
IDLE_S = 0.01


def serve(
    artifact: Path,
    out: Path,
    config: Path | None = None,
    data: Path | None = None,
    start: Path | None = None,
    adopted: Path | None = None,
    bind: str = ADDRESS,
    keys: Path | None = None,
    signing_key: Path = SIGNING_KEY,
    status: str | None = None,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    tensorboard: bool = False,
    resume: bool = False,
) -> None:
    """Learn from robots while they work and offer them what was learned, generation after generation, signed.

    It goes on until Ctrl-C or SIGTERM; it may be killed, and robots may come and go, at any time: nothing they sent is lost or
    counts twice. Leaves what `train` leaves, and publications.jsonl, published.offer (the newest generation), inbox/, status.json.

    With a robot on the same computer, from the first to the last:
      poco-trust init
      poco-learner serve --artifact artifacts/peg_in_hole --config configs/cpu/peg_in_hole.yaml --out runs/served
      poco-learner serve --artifact artifacts/peg_in_hole --config configs/cpu/peg_in_hole.yaml --out runs/served --resume
      poco-runtime --robot sim --policy artifacts/peg_in_hole --link tcp://127.0.0.1:7766 --swap.trust ~/.config/poco/trust/robot
      curl http://127.0.0.1:8766/status.json          # with --status 127.0.0.1:8766

    Args:
        artifact: Artifact that the robots began with: network, specification and weights are taken from it.
        out: Folder of the run.
        config: Training recipe, one whole YAML file; see configs/cpu. Its section `publish` says when a generation is published.
        data: Folder of demonstrations that begin the replay.
        start: Folder of an earlier run to begin with its actor and its critic, which then needs no warm-up.
        adopted: Checkpoint of `poco-learner adopt`, or a clone of it, for a vision-language-action policy: where its frozen part
            lies. The expert is the artifact's. Robots send images once a chunk, so the recipe has to draw `windows: acted`.
        bind: Where robots connect to, tcp://NUMBERS:PORT or ipc://PATH; other computers can reach it only with --keys.
        keys: Keys of the link, as poco-keys makes them.
        signing_key: Private key that signs generations, as poco-trust makes it.
        status: Where /status.json and /metrics (Prometheus) can be read on this computer, such as 127.0.0.1:8766.
        seed: Seed of networks and batches.
        threads: Threads that share the candidates of an update out; on a GPU it has no use for them.
        device: Where to learn: cpu, or cuda for a GPU, which takes the whole update as one graph. A run stays where it began.
        tensorboard: Write event files for TensorBoard to --out/tensorboard.
        resume: Go on with the run in --out, with its own recipe and seed; begin it if there is none.
    """
    import torch
    from rich.console import Console

    from poco.artifact import read_artifact
    from poco.learner import checkpoint, curves
    from poco.learner.devices import chosen_device
    from poco.learner.learning import Learning
    from poco.learner.link_server import LinkServer
    from poco.learner.metrics import read_figures
    from poco.learner.publications import Publications
    from poco.learner.publish import Publisher
    from poco.learner.service import Service
    from poco.learner.service_panel import Board
    from poco.learner.status_page import StatusPage
    from poco.learner.training_state import has_state
    from poco.link.keys import KeyFolder

    at_least_one("threads", threads)
    not_negative("seed", seed)
    torch.set_num_threads(1)
    chosen_device(device)
    origin = read_artifact(artifact)
    publisher_key = _signing_key(signing_key.expanduser())
    going_on = resume and has_state(out / "states")
    if resume and not going_on and (out / checkpoint.FILE).exists():
        raise ArtifactError(
            f"{out} holds what a run has learned, but {out / 'states'} no state to go on from: bring its files back, or begin "
            "anew in another --out"
        )
    run = dataclasses.replace(_run(origin, out, config, data, start, adopted, seed, threads, going_on), device=device)
    assert run.start is not None
    publisher = Publisher(origin, publisher_key, run.settings.publish.lifetime_s)
    with contextlib.ExitStack() as stack:
        welcome = None if keys is None else KeyFolder(keys.expanduser())
        once_a_chunk = origin.manifest.vla is not None
        server = LinkServer(out / "inbox", origin.manifest.specification_hash, bind, welcome, once_a_chunk)
        stack.callback(server.close)
        page = None if status is None else stack.enter_context(contextlib.closing(StatusPage(status)))
        if resume and not going_on:
            shutil.rmtree(out / "replay", ignore_errors=True)
        told, interval = run.start.specification, origin.specification.execute_steps if once_a_chunk else 1
        learning = Learning(run, told, "the artifact", going_on, _shown(origin, run.start), interval)
        service = Service(learning, server, Publications(out, publisher, run.settings.publish))
        board = stack.enter_context(contextlib.closing(Board(service, out, page, Console(stderr=True))))
        board.note(f"serving robots at {server.address}, generation {service.publications.generation}")
        if page is not None:
            board.note(f"status at http://{page.address}/status.json and /metrics")
        _work(service, board, out, tensorboard)
    if learning.progress.episodes:
        curves.draw(read_figures(out), out / "curves.png")
    print(json.dumps({"out": str(out), "generation": service.publications.generation, **learning.metrics()}))


def _work(service: Service, board: Board, out: Path, tensorboard: bool) -> None:
    """Serve until Ctrl-C or SIGTERM, then keep a checkpoint."""
    from poco.learner.interruption import stop_politely
    from poco.learner.tensorboard_log import tensorboard_log
    from poco.service_manager import ServiceManager

    manager = ServiceManager()
    with contextlib.ExitStack() as stack:
        log = None
        if tensorboard:
            log = stack.enter_context(tensorboard_log(out / "tensorboard", service.learning.progress.steps))
        stopping = stack.enter_context(
            stop_politely("ending with a checkpoint; Ctrl-C again ends at once", signal.SIGTERM)
        )
        manager.ready(f"serving robots at {service.server.address}")
        while not stopping():
            busy = service.turn()
            manager.alive()
            while service.new_figures:
                figures = service.new_figures.popleft()
                board.episode(figures)
                if log is not None:
                    log(figures)
            while service.new_publications:
                board.published(service.new_publications.popleft())
            board.show()
            if not busy:
                time.sleep(IDLE_S)
        manager.stopping()
        service.checkpoint()


def _shown(origin: Artifact, begin: Checkpoint) -> Shown | None:
    """Return what images the robots of `origin` send, None where its policy sees nothing or sees more than a journal takes."""
    from poco.journal.records import EVERY_STEP_SIDE_MAX, VIEWED_SIDE_MAX
    from poco.views import Shown

    most = EVERY_STEP_SIDE_MAX if origin.manifest.vla is None else VIEWED_SIDE_MAX
    if not begin.specification.cameras or not 0 < origin.viewed_side <= most:
        return None
    return Shown(cameras=begin.specification.cameras, side=origin.viewed_side, target_size=0)


def _check_sent(origin: Artifact, vla: Vla) -> None:
    """Raise ArtifactError where robots cannot send what the policy of `origin` sees: no squares, or larger than a journal takes."""
    from poco.journal.records import VIEWED_SIDE_MAX

    for seen in vla.cameras:
        if seen.camera is not None and (seen.height != seen.width or seen.height > VIEWED_SIDE_MAX):
            raise ArtifactError(
                f"the policy of {origin.path} sees images of {seen.width} x {seen.height} pixels, robots send squares of at most "
                f"{VIEWED_SIDE_MAX} x {VIEWED_SIDE_MAX}: train its checkpoint with such images (resize_imgs_with_padding or "
                "image_resolution in its config)"
            )


def _signing_key(path: Path) -> Ed25519PrivateKey:
    from poco.trust import read_private_key

    if not path.is_file():
        raise ArtifactError(
            f"there is no key to sign generations with at {path}: make one with `poco-trust init`, give robots its folder robot "
            "as --swap.trust, or name another key by --signing-key"
        )
    return read_private_key(path)


def _run(
    origin: Artifact,
    out: Path,
    config: Path | None,
    data: Path | None,
    start: Path | None,
    adopted: Path | None,
    seed: int,
    threads: int,
    going_on: bool,
) -> Run:
    """Return the run that begins with the policy of `origin` or, `going_on`, the one in `out`."""
    from poco.learner.checkpoint import Checkpoint
    from poco.learner.demonstrations import read_demonstrations
    from poco.learner.learning import Run
    from poco.learner.publish import policy_of, vla_policy_of
    from poco.learner.sight import encoded
    from poco.learner.training_state import read_header

    vla, metrics = origin.manifest.vla, origin.manifest.metrics
    if vla is not None:
        _check_sent(origin, vla)
    if vla is None:
        begin = Checkpoint(origin.specification, policy_of(origin), metrics)
    elif adopted is None:
        raise UsageError(
            f"artifact {origin.path} is a vision-language-action policy: give the checkpoint that `poco-learner adopt` made of its "
            "LeRobot checkpoint as --adopted"
        )
    else:
        policy = vla_policy_of(origin, vla, adopted)
        begin = Checkpoint(policy.specification, policy, metrics)
    if going_on:
        identity = read_header(out / "states").identity
        settings = identity.settings if config is None else read_recipe(config)
        return Run(settings, identity.seed, out, start=begin, threads=threads)
    if config is None:
        raise UsageError("--config is missing: give a training recipe such as configs/cpu/peg_in_hole.yaml")
    settings = read_recipe(config)
    if settings.best_of > 1:
        raise UsageError(
            f"method {settings.agent.method} acts with the best of {settings.best_of} chunks by the critic, a robot draws one: "
            "choose poco in the recipe"
        )
    if vla is not None and begin.eyes is not None and settings.windows != "acted":
        raise UsageError(
            f"windows is {settings.windows}, but robots send images once a chunk: write windows: acted into the recipe"
        )
    demonstrations = () if data is None else read_demonstrations(data).episodes
    if begin.eyes is not None:
        demonstrations = tuple(encoded(episode, begin.eyes, begin.specification) for episode in demonstrations)
    return Run(
        settings,
        seed,
        out,
        demonstrations=demonstrations,
        start=begin,
        warmed=None if start is None else _warmed(start, settings, begin),
        threads=threads,
    )


def _warmed(folder: Path, settings: TrainingSettings, begin: Checkpoint) -> TrainingState:
    """Return the newest state of the run in `folder`; raises ArtifactError if its networks are others than ours."""
    from poco.learner.trained_policy import architecture_of, network_of
    from poco.learner.training_state import read_state

    state = read_state(folder / "states")
    identity = state.identity
    if (identity.architecture, identity.network) != (architecture_of(begin.policy), network_of(begin.policy)):
        raise ArtifactError(
            f"the run in {folder} has another network than the artifact ({identity.architecture or identity.network}): start from "
            "a run that began with this policy"
        )
    for name in ("critic_hidden_sizes", "critic_heads", "critic_loss", "critic_clock_steps"):
        before, wanted = (getattr(one.agent, name) for one in (state.identity.settings, settings))
        if before != wanted:
            raise ArtifactError(
                f"the run in {folder} has a critic with {name} {before}, the recipe {wanted}: use its recipe, or leave --start out"
            )
    return state
