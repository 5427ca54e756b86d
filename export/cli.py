"""`poco-export`: from a checkpoint or any ONNX chunk policy to an artifact folder that the robot runs.

Examples:
  poco-export policy runs/peg_in_hole/checkpoint --out artifacts/peg_in_hole
  poco-export wrap act.onnx --spec configs/peg_in_hole_specification.yaml --out artifacts/act
  poco-export wrap diffusion.onnx --spec my_arm.yaml --out artifacts/diffusion --observation obs --noise sample
  poco-export vla smolvla_finetuned --specification my_arm.yaml --tokenizer SmolVLM2 --vlm SmolVLM2 --out artifacts/smolvla
  poco-export learned runs/smolvla_online --base artifacts/smolvla --out artifacts/smolvla_2
  poco-export groot-head groot_finetuned --base GR00T-N1.7-3B --out artifacts/groot_head
  poco-export engine artifacts/tiny_smolvla --backend tensorrt-rtx

Exit codes: 0 done, 1 something else with a sentence of its own, 2 usage, 3 specification, 4 checkpoint, model or artifact.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from poco.artifact import MANIFEST, Artifact
from poco.command_line import run_command
from poco.errors import UsageError, guard


def policy(checkpoint: Annotated[Path, tyro.conf.Positional], out: Path) -> None:
    """Export a checkpoint; refuses if the graph does not reproduce the policy to 1e-5.

    Args:
        checkpoint: Folder of the checkpoint, as `poco-learner clone` makes it.
        out: Folder to write the artifact to; refused if it holds one already.
    """
    from poco.export.policy import export_policy

    _leave_alone(out / MANIFEST)
    artifact = export_policy(checkpoint, out)
    error = artifact.manifest.metrics["parity_error"]
    _announce(artifact, f"largest difference from the checkpoint {error:.1e}")


def wrap(
    model: Annotated[Path, tyro.conf.Positional],
    spec: Path,
    out: Path,
    observation: str | None = None,
    noise: str | None = None,
    actions: str | None = None,
) -> None:
    """Wrap any chunk policy in ONNX (one observation vector, possibly noise, to one chunk); it cannot be swapped later.

    Args:
        model: The ONNX file, weights inside.
        spec: Specification (YAML) that the policy was trained under; observation and actions scaled to [-1, 1].
        out: Folder to write the artifact to; refused if it holds one already.
        observation: Name of the observation input, where its shape does not tell.
        noise: Name of the noise input, where its shape does not tell.
        actions: Name of the output that is the chunk, where its shape does not tell.
    """
    from poco.export.wrap import Names, wrap_model
    from poco.observation import check_sources
    from poco.specification import read_specification

    _leave_alone(out / MANIFEST)
    specification = read_specification(spec)
    check_sources(specification)
    artifact = wrap_model(model, specification, out, Names(observation, noise, actions))
    _announce(artifact, "weights are part of the graph, no swap")


def vla(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    specification: Path,
    out: Path,
    tokenizer: Path | None = None,
    vlm: Path | None = None,
    cameras: tuple[str, ...] = (),
    steps: int | None = None,
    precision: Literal["fp32", "fp16"] = "fp32",
    vision_positions: Literal["auto", "raster", "shifted"] = "auto",
    chunk: bool = True,
) -> None:
    """Export a LeRobot checkpoint of SmolVLA, pi0 or pi0.5; refuses if its graphs do not give what LeRobot gives.

    Args:
        checkpoint: Folder that LeRobot's save_pretrained wrote: config, weights, processors.
        specification: Specification (YAML): its observation is the policy's state, its action the policy's, both in physical units.
        out: Folder to write the artifact to; refused if it holds one already.
        tokenizer: Folder of the policy's tokenizer (tokenizer.json), which no LeRobot checkpoint holds.
        vlm: Folder with the config.json of the VLM that a SmolVLA is built around.
        cameras: IMAGE=CAMERA where the robot's camera is not called as the policy's image; IMAGE=none for one it does not have.
        steps: Euler steps from noise to actions, where not the checkpoint's.
        precision: Arithmetic and weights of the graphs.
        vision_positions: Order of the positions of image patches that the policy was trained with; auto is the installed library's.
        chunk: Whether to export all steps as one graph as well.
    """
    from poco.export.vla.exporting import export_vla
    from poco.export.vla.options import Progress, VlaOptions

    _leave_alone(out / MANIFEST)
    options = VlaOptions(
        checkpoint=checkpoint,
        specification=specification,
        out=out,
        tokenizer=tokenizer,
        vlm=vlm,
        cameras=cameras,
        steps=steps,
        precision=precision,
        vision_positions=vision_positions,
        chunk=chunk,
    )
    artifact = export_vla(options, Progress(lambda line: print(line, flush=True)))
    error = artifact.manifest.metrics["parity_error"]
    _announce(artifact, f"largest difference from LeRobot {error:.1e} of the range of the actions")


def learned(checkpoint: Annotated[Path, tyro.conf.Positional], base: Path, out: Path) -> None:
    """Export what a learner made of the expert of a VLA, on the graphs of the artifact that it came from; takes seconds.

    Args:
        checkpoint: Folder of the checkpoint, as `poco-learner adopt`, `clone` or `train` makes it.
        base: Folder of the artifact that `poco-export vla` made of the LeRobot checkpoint that was adopted.
        out: Folder to write the artifact to; refused if it holds one already.
    """
    from poco.export.vla.learned import export_learned

    _leave_alone(out / MANIFEST)
    artifact = export_learned(checkpoint, base, out)
    error, generation = artifact.manifest.metrics["parity_error"], artifact.manifest.generation
    _announce(
        artifact,
        f"generation {generation}, largest difference from the learner {error:.1e} of the range of the actions",
    )


def groot_head(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    base: Path,
    out: Path,
    tokens: int = 512,
    steps: int | None = None,
) -> None:
    """Export the action head of a LeRobot checkpoint of GR00T N1.7 (experimental): it needs a backbone that runs elsewhere.

    Args:
        checkpoint: Folder that LeRobot's save_pretrained wrote: config, weights, processors.
        base: Folder with the config.json of the GR00T that was fine-tuned.
        out: Folder to write graphs and weights to; refused if it holds some already.
        tokens: Features of the backbone that the graphs take, images and words together; fewer are padded.
        steps: Euler steps from noise to actions, where not the checkpoint's.
    """
    from poco.export.vla.groot_head import MANIFEST as HEAD
    from poco.export.vla.groot_head import HeadOptions, export_head
    from poco.export.vla.options import Progress

    _leave_alone(out / HEAD)
    options = HeadOptions(checkpoint, base, out, tokens, steps)
    head = export_head(options, Progress(lambda line: print(line, flush=True)))
    error, sensitivity = head.parity.error, min(head.parity.sensitivity.values())
    print(
        f"head {out}: embodiment {head.embodiment}, {head.schedule.steps} steps, largest difference from LeRobot {error:.1e} of "
        f"the range of the actions; changing an input moves them by {sensitivity:.1e} at least. Its backbone is not in it."
    )


def engine(
    artifact: Annotated[Path, tyro.conf.Positional],
    backend: Literal["tensorrt", "tensorrt-rtx"] = "tensorrt-rtx",
    engines: str = "",
) -> None:
    """Build the engines of an artifact on this computer, so that a run with that backend finds them.

    Args:
        artifact: Folder of the artifact.
        backend: The library that the run will use, as its --inference.backend.
        engines: Folder of engines, as the run's --inference.engines; empty for ~/.cache/poco/engines.
    """
    from poco.artifact import read_artifact
    from poco.engines.build_all import build_engines

    for facts in build_engines(read_artifact(artifact), backend, engines, lambda line: print(line, flush=True)):
        target = facts.target
        print(
            f"engine of {facts.graph}: {facts.plan_bytes / 1e6:.1f} MB, built in {facts.built_s:.1f} s by {target.library} "
            f"{target.version} for GPU {target.device.name}, driver {target.device.driver}"
        )


def _leave_alone(manifest: Path) -> None:
    """Raise UsageError before any work if the folder of `manifest` holds what was exported already."""
    if manifest.exists():
        raise UsageError(f"{manifest.parent} already holds an artifact: choose another --out, or remove the folder")


def _announce(artifact: Artifact, remark: str) -> None:
    size_kib = sum(file.stat().st_size for file in artifact.path.iterdir()) / 1024
    specification = artifact.specification
    print(
        f"artifact {artifact.path}: {specification.name}, chunk of {specification.chunk_steps} x {specification.action_size}, "
        f"{size_kib:.0f} KiB, {remark}"
    )


def main() -> None:
    """Run `poco-export`."""
    commands: dict[str, Callable[..., None]] = {
        "policy": policy,
        "wrap": wrap,
        "vla": vla,
        "learned": learned,
        "groot-head": groot_head,
        "engine": engine,
    }
    guard(lambda: run_command(commands, "poco-export", __doc__))


if __name__ == "__main__":
    main()
