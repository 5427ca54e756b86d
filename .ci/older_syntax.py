"""Rewrite the type parameters of Python 3.12 in an installed package for Python 3.11; only in an environment made for tests.

Usage: python .ci/older_syntax.py FOLDER
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

CLASS = re.compile(
    r"(?P<decorators>(?:^@.*\n)*)^class (?P<name>\w+)\[(?P<parameters>[^\]]+)\](?:\((?P<bases>[^)]*)\))?:", re.MULTILINE
)
FUNCTION = re.compile(r"^def (?P<name>\w+)\[(?P<parameters>[^\]]+)\]\(", re.MULTILINE)
ALIAS = re.compile(r"^type (?P<name>\w+) = ", re.MULTILINE)


def names(parameters: str) -> list[str]:
    """Return the names of type parameters without their bounds."""
    return [part.partition(":")[0].strip() for part in parameters.split(",")]


def declared(parameters: str) -> str:
    """Return the lines that declare the type parameters the older way."""
    lines = [f'{name} = TypeVar("{name}")\n' for name in names(parameters)]
    return "from typing import Generic, TypeVar\n" + "".join(lines)


def older(source: str) -> str:
    """Return `source` with classes, functions and aliases as Python 3.11 writes them."""

    def a_class(match: re.Match[str]) -> str:
        bases = [*filter(None, [match["bases"]]), f"Generic[{', '.join(names(match['parameters']))}]"]
        return f"{declared(match['parameters'])}{match['decorators']}class {match['name']}({', '.join(bases)}):"

    source = CLASS.sub(a_class, source)
    source = FUNCTION.sub(lambda match: f"{declared(match['parameters'])}def {match['name']}(", source)
    return ALIAS.sub(lambda match: f"{match['name']} = ", source)


def main() -> None:
    """Rewrite every file of the folder that this Python cannot read, and say how many there were."""
    count = 0
    for path in sorted(Path(sys.argv[1]).rglob("*.py")):
        source = path.read_text()
        try:
            ast.parse(source)
        except SyntaxError:
            rewritten = older(source)
            ast.parse(rewritten)
            path.write_text(rewritten)
            count += 1
    print(f"rewrote {count} files for Python {sys.version_info.major}.{sys.version_info.minor}")


if __name__ == "__main__":
    main()
