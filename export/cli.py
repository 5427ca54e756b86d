"""`poco-export`: from a checkpoint or any ONNX chunk policy to an artifact folder that the robot runs.

Examples:
  poco-export policy runs/peg_in_hole/checkpoint --out artifacts/peg_in_hole
  poco-export wrap act.onnx --spec configs/peg_in_hole_specification.yaml --out artifacts/act
  poco-export wrap diffusion.onnx --spec my_arm.yaml --out artifacts/diffusion --observation obs --noise sample
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from poco.command_line import run_command
from poco.errors import guard

if TYPE_CHECKING:
    from poco.artifact import Artifact


def policy(checkpoint: Annotated[Path, tyro.conf.Positional], out: Path) -> None:
    """Export a checkpoint; refuses if the graph does not reproduce the policy to 1e-5.

    Args:
        checkpoint: Folder of the checkpoint, as `poco-learner clone` makes it.
        out: Folder to write the artifact to; an artifact there is replaced.
    """
    from poco.export.policy import export_policy

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
        out: Folder to write the artifact to; an artifact there is replaced.
        observation: Name of the observation input, where its shape does not tell.
        noise: Name of the noise input, where its shape does not tell.
        actions: Name of the output that is the chunk, where its shape does not tell.
    """
    from poco.export.wrap import Names, wrap_model
    from poco.observation import check_sources
    from poco.specification import read_specification

    specification = read_specification(spec)
    check_sources(specification)
    artifact = wrap_model(model, specification, out, Names(observation, noise, actions))
    _announce(artifact, "weights are part of the graph, no swap")


def _announce(artifact: Artifact, remark: str) -> None:
    size_kib = sum(file.stat().st_size for file in artifact.path.iterdir()) / 1024
    specification = artifact.specification
    print(
        f"artifact {artifact.path}: {specification.name}, chunk of {specification.chunk_steps} x {specification.action_size}, "
        f"{size_kib:.0f} KiB, {remark}"
    )


def main() -> None:
    """Run `poco-export`."""
    commands: dict[str, Callable[..., None]] = {"policy": policy, "wrap": wrap}
    guard(lambda: run_command(commands, "poco-export", __doc__))


if __name__ == "__main__":
    main()
