"""Use an installed poco as a stranger would: import every module of the robot side, start every program, find the settings."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import poco

NEEDS_TORCH = (
    "poco.learner",
    "poco.export",
    "poco.hw.polymetis",
    "poco.hw.emulator.polymetis",
    "poco.runtime.polymetis",
)


def modules() -> list[str]:
    """Return every module of the robot side, the native one included."""
    found = [info.name for info in pkgutil.walk_packages(poco.__path__, "poco.", onerror=lambda name: None)]
    return [name for name in found if not name.startswith(NEEDS_TORCH)]


def programs() -> list[str]:
    """Return every console script of the distribution that needs no torch."""
    scripts = entry_points(group="console_scripts")
    return [script.name for script in scripts if script.value.startswith("poco.") and script.module not in excluded()]


def excluded() -> set[str]:
    """Return the modules behind the programs that need torch."""
    return {f"{package}.cli" for package in NEEDS_TORCH}


def main() -> None:
    """Import, start and check; leaves with an exception at the first thing that does not work."""
    home = Path(poco.__file__).parent
    assert "site-packages" in home.parts, f"poco comes from {home}, not from the distribution"
    assert importlib.util.find_spec("torch") is None, "the robot side installed torch"
    names = modules()
    for name in names:
        importlib.import_module(name)
    assert {"poco._core", "poco.runtime", "poco.hw.emulator.tasks"} <= set(names), names
    for program in programs():
        subprocess.run([Path(sys.executable).with_name(program), "--help"], check=True, stdout=subprocess.DEVNULL)
    assert list(home.glob("configs/*.yaml")), "no settings file was installed"
    print(f"imported {len(names)} modules, started {', '.join(programs())}")


if __name__ == "__main__":
    main()
