"""The command of `poco-learner` that clones what demonstrations show, from observation vectors or from images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from poco.errors import UsageError
from poco.learner.training_commands import at_least_one, not_negative

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from poco.learner.checkpoint import Checkpoint
    from poco.learner.demonstrations import Demonstrations
    from poco.learner.image_cloning import ImageCloningSettings
    from poco.learner.image_policy import ImagePolicy

LINES = {
    "training": "training",
    "validation": "held-out episodes",
    "flow": "held-out episodes",
    "pose": "error of the pose, held-out episodes",
}
"""What the columns of a curve are called in its picture."""


def clone(
    data: Path,
    out: Path,
    start: Path | None = None,
    steps: int = 20_000,
    seed: int = 0,
    batch: int = 256,
    hidden_sizes: tuple[int, ...] = (128, 128, 128),
    learning_rate: float = 1e-3,
    features: int = 16,
    depth: Literal[10, 18] = 10,
    width: int = 16,
    image_weights: Path | None = None,
    device: str = "cpu",
) -> None:
    """Train a flow-matching policy by behaviour cloning and keep the best one on held-out episodes.

    Data that were made with --image-side train a policy that sees, encoders and all, with a second loss of where the target is;
    then the encoders are frozen. A few thousand steps with --batch 64 are enough for a start. An adopted policy that sees is shown
    the images as it is.

    Args:
        data: Folder of episode files, or of a run of train that has ended: the successful episodes of its replay.
        out: Folder of the checkpoint; also gets the loss curve (loss.png) and figures (training.json).
        start: Folder of a checkpoint to go on from, such as an adopted one; without it a fresh policy is trained.
        steps: Gradient steps.
        seed: Seed of split, initialisation and batches; the same seed gives the same policy.
        batch: Windows in one gradient step.
        hidden_sizes: Widths of the hidden layers.
        learning_rate: First learning rate; it falls to zero along a cosine.
        features: Numbers that are kept of each camera's image (data with images).
        depth: Layers of the residual network of each camera (data with images).
        width: Channels of its first layer (data with images); 64 is the published size.
        image_weights: Safetensors file with torchvision's names to begin every camera's network with; it needs --width 64.
        device: Where to train: cpu, or cuda for a GPU (data without images).
    """
    import torch

    from poco.learner import checkpoint, cloning, demonstrations, image_cloning
    from poco.learner.checkpoint import read_checkpoint
    from poco.learner.devices import chosen_device
    from poco.learner.own_episodes import is_run, own_successes
    from poco.learner.progress import track

    for flag, count in {"steps": steps, "batch": batch, "features": features, "width": width}.items():
        at_least_one(flag, count)
    for size in hidden_sizes:
        at_least_one("hidden-sizes", size)
    not_negative("seed", seed)
    if not 0.0 < learning_rate <= 1.0:
        raise UsageError(
            f"--learning-rate is {learning_rate:g}, must be above 0 and at most 1: choose for example 0.001"
        )
    if (out / checkpoint.FILE).exists():
        raise UsageError(f"{out} already holds a policy: choose another --out, or remove the folder")
    torch.set_num_threads(1)
    place = chosen_device(device)
    loaded = own_successes(data) if is_run(data) else demonstrations.read_demonstrations(data)
    begun = None if start is None else read_checkpoint(start)
    if begun is not None:
        loaded = _shown_to(begun, loaded)
    seeing = begun is None and loaded.episodes[0].views is not None
    if seeing and place.type != "cpu":
        raise UsageError(f"--device is {device}, but {data} holds images, which are cloned on the cpu: leave it out")
    if image_weights is not None and not seeing:
        raise UsageError(f"--image-weights is {image_weights}, but {data} holds no images: leave it out")
    out.mkdir(parents=True, exist_ok=True)
    with track("behaviour cloning", steps, "steps") as advance:

        def on_step(step: int, loss: float) -> None:
            advance(f"loss {loss:.4f}")

        if seeing:
            made, curve = _from_images(
                loaded,
                image_cloning.ImageCloningSettings(
                    steps=steps,
                    seed=seed,
                    batch=batch,
                    hidden_sizes=hidden_sizes,
                    learning_rate=learning_rate,
                    features=features,
                    depth=depth,
                    width=width,
                ),
                image_weights,
                on_step,
            )
        else:
            settings = cloning.CloningSettings(
                steps=steps, seed=seed, batch=batch, hidden_sizes=hidden_sizes, learning_rate=learning_rate
            )
            cloned = cloning.clone(loaded, settings, on_step, place, None if begun is None else begun.policy)
            made = checkpoint.Checkpoint(loaded.specification, cloned.policy, cloned.metrics)
            curve = [asdict(point) for point in cloned.curve]
    checkpoint.write_checkpoint(out, made)
    _write_report(made.metrics, curve, out)
    print(json.dumps({"out": str(out), **made.metrics}))


def _shown_to(begun: Checkpoint, loaded: Demonstrations) -> Demonstrations:
    """Return `loaded` as the policy that is `begun` with sees it; raises ArtifactError for data of another specification."""
    from dataclasses import replace

    from poco.errors import ArtifactError
    from poco.learner.sight import encoded
    from poco.learner.vla.eyes import EpisodeAlbum, Eyes

    if begun.encoder is not None or loaded.specification.digest() != begun.specification.told.digest():
        raise ArtifactError(
            f"--start has specification {begun.specification.digest()[:12]}, the data {loaded.specification.digest()[:12]}: give a "
            "checkpoint for these data, without an encoder of images of its own"
        )
    if not isinstance(begun.eyes, Eyes):
        return loaded
    episodes = tuple(encoded(episode, begun.eyes, begun.specification) for episode in loaded.episodes)
    begun.eyes.albums.append(EpisodeAlbum(begun.eyes, episodes))
    return replace(loaded, specification=begun.specification, episodes=episodes)


def _from_images(
    loaded: Demonstrations, settings: ImageCloningSettings, weights: Path | None, on_step: Callable[[int, float], None]
) -> tuple[Checkpoint, list[dict[str, float]]]:
    from poco.learner.checkpoint import Checkpoint
    from poco.learner.encoder import with_features
    from poco.learner.image_cloning import clone_images
    from poco.learner.resnet import ResNet, load_weights

    def begin(policy: ImagePolicy) -> None:
        for network in policy.encoder.networks:
            assert isinstance(network, ResNet)
            if weights is not None:
                load_weights(network, weights)

    cloned = clone_images(loaded, settings, on_step, begin)
    encoder = cloned.policy.encoder
    specification = with_features(loaded.specification, encoder)
    made = Checkpoint(specification, cloned.policy.flow, cloned.metrics, encoder)
    return made, [asdict(point) for point in cloned.curve]


def _write_report(metrics: dict[str, float], curve: Sequence[dict[str, float]], out: Path) -> None:
    """Write figures and loss curve of a training run beside its checkpoint."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (out / "training.json").write_text(json.dumps({"metrics": metrics, "curve": curve}, indent=2) + "\n")
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name in sorted(curve[0].keys() - {"step"}):
        axes.plot([point["step"] for point in curve], [point[name] for point in curve], marker=".", label=LINES[name])
    axes.set(xlabel="gradient steps", ylabel="flow-matching loss", title="Behaviour cloning")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out / "loss.png", dpi=120)
