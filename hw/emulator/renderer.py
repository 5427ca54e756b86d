"""Pictures without a display: which way this computer has, and a renderer that takes it."""

from __future__ import annotations

import ctypes.util
import importlib
import os
from typing import TYPE_CHECKING

from poco.errors import PocoError

if TYPE_CHECKING:
    import mujoco

PACKAGES = {"egl": "libegl1 libegl-mesa0 libgl1-mesa-dri", "osmesa": "libosmesa6"}
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}


def choose_renderer() -> str:
    """Set MUJOCO_GL to what this computer can load and return it; raises PocoError naming the Debian packages if nothing.

    Mesa's software renderer is kept from threads of its own: they would take the servo's core for pictures of a few pixels.
    """
    chosen = os.environ.get("MUJOCO_GL") or next(
        (name for name, library in LIBRARIES.items() if ctypes.util.find_library(library)), None
    )
    if chosen is None:
        raise PocoError(f"no pictures: neither EGL nor OSMesa is installed, {remedy()}")
    os.environ["MUJOCO_GL"] = chosen
    os.environ["PYOPENGL_PLATFORM"] = chosen
    os.environ.setdefault("LP_NUM_THREADS", "0")
    return chosen


def remedy() -> str:
    """Return which Debian packages give a renderer without a display."""
    return " or ".join(f"apt-get install {packages}" for packages in PACKAGES.values())


def open_renderer(model: mujoco.MjModel, height: int, width: int) -> mujoco.Renderer:
    """Return a renderer of pictures of `model` of `height` x `width` pixels; raises PocoError without a way to render.

    MuJoCo takes its way when it is imported, so where that came first it has to look again.
    """
    chosen = choose_renderer()
    import mujoco
    from mujoco.rendering.classic import gl_context

    try:
        if not getattr(gl_context, "GLContext", object).__module__.endswith(chosen):
            importlib.reload(gl_context)
        return mujoco.Renderer(model, height, width)
    except (RuntimeError, ImportError, AttributeError) as error:
        raise PocoError(f"no pictures: {chosen} does not start ({error}), {remedy()}") from error
