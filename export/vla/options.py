"""What a user asks of `poco-export vla`, and the progress that it tells."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class VlaOptions:
    """Where checkpoint, specification, VLM config and tokenizer lie, where to write, and how to export.

    `cameras` are "image=camera" with the last word of an image's key; "none" is a camera that the robot does not have. `steps` is
    the number of Euler steps, None for the checkpoint's. With `chunk` all steps are exported as one graph as well.
    """

    checkpoint: Path
    specification: Path
    out: Path
    tokenizer: Path | None = None
    vlm: Path | None = None
    cameras: tuple[str, ...] = ()
    steps: int | None = None
    precision: Literal["fp32", "fp16"] = "fp32"
    vision_positions: Literal["auto", "raster", "shifted"] = "auto"
    chunk: bool = True


class Progress:
    """Tells what is done, how long it took (s), how large it became and how much memory the process has taken at most."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    @contextmanager
    def stage(self, name: str) -> Any:
        """Run a stage that may put its size in bytes and a remark into the dictionary it gets."""
        begun_s = time.monotonic()
        facts: dict[str, Any] = {}
        yield facts
        taken_s = time.monotonic() - begun_s
        size = f", {facts['bytes'] / 1e6:,.1f} MB" if "bytes" in facts else ""
        remark = f", {facts['remark']}" if "remark" in facts else ""
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        self._tell(f"{name}: {taken_s:.1f} s{size}{remark} (memory so far {peak_gb:.1f} GB)")

    def remark(self, text: str) -> None:
        """Tell `text`."""
        self._tell(text)
