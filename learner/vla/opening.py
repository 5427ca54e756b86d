"""From a LeRobot checkpoint to a policy that learns, read as strictly as for an export."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from poco.errors import ArtifactError, UsageError
from poco.learner.vla import flow
from poco.learner.vla.adapter import Adapter, Sizes, library_version
from poco.learner.vla.checkpoint import WEIGHTS, fill, open_checkpoint
from poco.learner.vla.eyes import Eyes
from poco.learner.vla.network import VlaNetwork, camera_names
from poco.learner.vla.pi import Pi0, Pi05
from poco.learner.vla.policy import VlaPolicy
from poco.learner.vla.positions import Rule as VisionRule
from poco.learner.vla.positions import settle_positions
from poco.learner.vla.processors import Processing, read_processing
from poco.learner.vla.smolvla import SmolVla
from poco.learner.vla.tokens import Tokenizer, read_tokenizer
from poco.specification import Specification
from poco.vla import Vla, VlaCamera

ADAPTERS: dict[str, Adapter] = {"smolvla": SmolVla(), "pi0": Pi0(), "pi05": Pi05()}


def open_vla(network: VlaNetwork, specification: Specification) -> VlaPolicy:
    """Return the policy of `network` with the weights of its checkpoint, told what `specification` says besides images.

    It knows its network with the hash of what stays frozen.

    Raises ArtifactError or UsageError with one sentence if the checkpoint is unsound, another one or does
    not fit `specification`.
    """
    checkpoint = open_checkpoint(Path(network.checkpoint))
    adapter, processing = ADAPTERS[checkpoint.type], read_processing(checkpoint)
    tokenizer = read_tokenizer(Path(network.tokenizer))
    check_widths(processing, specification, checkpoint.folder)
    library: Any = adapter.build(checkpoint, None if network.vlm is None else Path(network.vlm))
    fill(library, checkpoint.folder / WEIGHTS)
    keys = adapter.sizes(library, processing.prompt_length).cameras
    cameras = camera_names(keys, network.cameras) if network.cameras else None
    vla = describe(adapter, library, processing, tokenizer, specification, network.vision_positions, cameras)
    named = msgspec.structs.replace(network, frozen_sha256=vla.frozen_sha256)
    if network.frozen_sha256 not in ("", vla.frozen_sha256):
        raise ArtifactError(
            f"the checkpoint {checkpoint.folder} has another frozen part ({vla.frozen_sha256[:12]}) than the one that was "
            f"learned on ({network.frozen_sha256[:12]}): put that one back"
        )
    return VlaPolicy(library, vla, specification, tokenizer, named, eyes=_eyes(vla))


def _eyes(vla: Vla) -> Eyes | None:
    """Return what marks the images of the policy; none if it sees nothing. Raises ArtifactError for images that are no squares."""
    if not vla.cameras_used:
        return None
    height, width = vla.cameras[0].height, vla.cameras[0].width
    if height != width:
        raise ArtifactError(
            f"the images of the policy are {width} x {height} pixels, must be squares to learn from them: train the checkpoint "
            "with squares (resize_imgs_with_padding or image_resolution in its config), or adopt it without --cameras"
        )
    return Eyes(vla.cameras_used, height, vla.frozen_sha256)


def describe(
    adapter: Adapter,
    library: Any,
    processing: Processing,
    tokenizer: Tokenizer,
    specification: Specification,
    asked: VisionRule,
    cameras: Mapping[str, str | None] | None = None,
) -> Vla:
    """Return all that is to be known of the policy `library`, filled with its weights; its vision positions are settled as `asked`.

    `cameras` says which of the robot's cameras gives each of its images; one that is not named is never there. Raises
    UsageError for a chunk that is longer than the policy's, ArtifactError for positions that cannot be had.
    """
    import transformers

    sizes = adapter.sizes(library, processing.prompt_length)
    _check_times(sizes, specification)
    blank = torch.zeros(1, 3, sizes.height, sizes.width)
    return Vla(
        type=adapter.type,
        frozen_sha256=frozen_hash(library),
        prompt=tokenizer.prompt(processing.template, processing.prompt_length),
        cameras=tuple(
            VlaCamera(
                camera=(cameras or {}).get(key),
                key=key,
                height=sizes.height,
                width=sizes.width,
                padding=adapter.padding,
            )
            for key in sizes.cameras
        ),
        state=processing.state,
        action=processing.action,
        width=sizes.padded,
        chunk_length=sizes.chunk,
        first_action=specification.delay_steps,
        schedule=adapter.schedule(library),
        versions={
            "lerobot": library_version(),
            "transformers": transformers.__version__,
            "torch": str(torch.__version__),
        },
        vision_positions=settle_positions(
            adapter.patch_positions(library), lambda: adapter.look(library, blank), asked
        ),
        precision="fp32",
        golden_tasks=(),
        relative=processing.relative,
    )


def check_widths(processing: Processing, specification: Specification, folder: Path) -> None:
    """Raise UsageError if state or action of the checkpoint in `folder` are not those of `specification`."""
    for what, ours, theirs in (
        ("observation", specification.observation_size, processing.state.size),
        ("action", specification.action_size, processing.action.size),
    ):
        if ours != theirs:
            raise UsageError(
                f"the specification's {what} has {ours} elements, checkpoint {folder} has {theirs}: write fields for each"
            )
    if specification.cameras:
        raise UsageError(
            "the specification observes what an encoder makes of images, a vision-language-action policy sees the images itself: "
            "leave those fields out"
        )


def _check_times(sizes: Sizes, specification: Specification) -> None:
    needed = specification.delay_steps + specification.chunk_steps
    if needed > sizes.chunk:
        raise UsageError(
            f"the specification uses actions up to step {needed} after the observation (delay_steps + chunk_steps), the policy "
            f"gives {sizes.chunk}: write a smaller chunk_steps"
        )


def frozen_hash(library: Any) -> str:
    """Return the sha256 over names, types, shapes and contents of the tensors of the library's policy that do not learn."""
    learning, digest = {name for name, _ in flow.trained(library)}, hashlib.sha256()
    for name, tensor in sorted(library.state_dict().items()):
        if name not in learning:
            digest.update(f"{name}:{tensor.dtype}{tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
