"""A curve of fractions on a terminal: two by four dots a letter, in the braille patterns of Unicode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of a dot by row and column (Unicode 15, block Braille Patterns)."""

ROWS, COLUMNS = len(DOTS), len(DOTS[0])


def curve(values: Sequence[float], first: int, count: int, width: int, height: int) -> list[str]:
    """Return `height` lines of `width` letters, top first, of `values` (0 to 1) at the places first, first + 1, ... of `count`.

    Neighbours are joined by upright strokes.
    """
    dots = [[False] * (width * COLUMNS) for _ in range(height * ROWS)]
    before: int | None = None
    for column in range(width * COLUMNS):
        place = column * count // (width * COLUMNS) - first
        if not 0 <= place < len(values):
            continue
        row = round((1.0 - min(max(values[place], 0.0), 1.0)) * (height * ROWS - 1))
        start = row if before is None else before
        for between in range(min(start, row), max(start, row) + 1):
            dots[between][column] = True
        before = row
    return ["".join(_letter(dots, line, letter) for letter in range(width)) for line in range(height)]


def marks(places: Iterable[int], count: int, width: int, letter: str) -> str:
    """Return a line of `width` with `letter` at every one of `places` among `count`."""
    line = [" "] * width
    for place in places:
        line[min(width - 1, place * width // count)] = letter
    return "".join(line)


def _letter(dots: Sequence[Sequence[bool]], line: int, letter: int) -> str:
    bits = sum(
        bit
        for row, bits in enumerate(DOTS)
        for column, bit in enumerate(bits)
        if dots[line * ROWS + row][letter * COLUMNS + column]
    )
    return chr(BRAILLE + bits)
