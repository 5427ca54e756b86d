"""Stand-ins for packages that LeRobot imports beside what its policies compute with, so that a small environment can load it.

Only imports made by lerobot's own modules are answered, and only where the package is not installed; nothing in a forward
pass touches one. A user's environment has the real packages.
"""

from __future__ import annotations

import builtins
import importlib.util
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

ABSENT = frozenset(
    name
    for name in (
        "torchvision",
        "cv2",
        "datasets",
        "accelerate",
        "av",
        "pandas",
        "pyarrow",
        "deepdiff",
        "imageio",
        "serial",
        "diffusers",
    )
    if importlib.util.find_spec(name) is None
)


class _AnyName(type):
    """Gives a class for any attribute that it is asked for."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyName(name, (_Anything,), {})


class _Anything(metaclass=_AnyName):
    """A class that can be subclassed, made and asked for any attribute."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        pass


class _StandIn(ModuleType):
    """A module that has any name."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_Anything, name)


def install() -> None:
    """Answer imports of absent packages by lerobot's modules from now on; transformers looks for its own before."""
    import transformers.utils.import_utils  # noqa: F401
    from transformers import AutoModel  # noqa: F401

    genuine = builtins.__import__

    def imported(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        asking = str((globals or {}).get("__name__", ""))
        top = name.partition(".")[0]
        if level == 0 and top in ABSENT and asking.startswith("lerobot"):
            return _StandIn(name if fromlist else top)
        return genuine(name, globals, locals, fromlist, level)

    builtins.__import__ = imported
