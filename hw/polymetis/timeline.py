"""What the controller in the server was told, kept a second time on this side: a timeline of quintic segments in robot time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from poco.clock import TICK_S, TICKS_PER_SECOND
from poco.limits import JOINTS
from poco.spline import join, sample

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]

BRAKE_STEP_TICKS = 8
"""Length of the segments that a stop is told in."""

KEPT_S = 2.0
"""How long a segment is kept after it has ended."""

LONG_AGO_S = -1e9
"""Where the segment begins that the arm is held by from the start, in robot time."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of motion that takes the place of everything from its beginning on; its last segment is a hold.

    `begins_s` [n] are robot times (s since the timeline's origin), `coefficients` [n, 6, 7] (rad) belong to powers of the seconds
    since the beginning of each segment.
    """

    begins_s: Floats
    coefficients: Floats


def piece_of_chunk(chunk: Record, origin_tick: int) -> Piece:
    """Return a CHUNK_SPLINE record as a piece of the timeline whose time 0 is robot tick `origin_tick`."""
    segments = int(chunk["segments"])
    ticks = chunk["knots"][: segments + 1] + int(chunk["attach_tick"]) - origin_tick
    end_q = sample(chunk, int(chunk["knots"][segments]))[0]
    return Piece(ticks / TICKS_PER_SECOND, np.concatenate([chunk["coefficients"][:segments], _hold(end_q)]))


def piece_of_commands(commands: Record, first_tick: int, origin_tick: int) -> Piece:
    """Return COMMAND records [n] of the ticks from `first_tick` on, which end at rest, as a piece; n > 1."""
    last = len(commands) - 1
    at = [*range(0, last, BRAKE_STEP_TICKS), last]
    coefficients = np.zeros((len(at) - 1, 6, JOINTS))
    for row, (a, b) in enumerate(pairwise(at)):
        start, end = commands[a], commands[b]
        join(start["q"], start["dq"], start["ddq"], end["q"], end["dq"], end["ddq"], b - a, coefficients[row])
    begins_s = (np.array(at) + first_tick - origin_tick) / TICKS_PER_SECOND
    return Piece(begins_s, np.concatenate([coefficients, _hold(commands[last]["q"])]))


def _hold(q: Floats) -> Floats:
    """Return the one segment [1, 6, 7] in which the arm is held at `q` [7] (rad)."""
    return np.vstack([q, np.zeros((5, JOINTS))])[None]


class Timeline:
    """Segments in order of robot time, the last one a hold; what the controller has, evaluated the same way."""

    def __init__(self, q: Floats) -> None:
        """Hold `q` [7] (rad)."""
        self.begins_s: list[float] = [LONG_AGO_S]
        self.coefficients: list[Floats] = [*_hold(q)]
        self.inertia = np.zeros((JOINTS, JOINTS))

    def take(self, piece: Piece, inertia: Floats) -> None:
        """Let `piece` take the place of everything from its beginning on; `inertia` [7, 7] counts at once."""
        begin_s = float(piece.begins_s[0])
        kept = bisect_right(self.begins_s, begin_s - TICK_S / 2)
        gone = max(0, bisect_right(self.begins_s, begin_s - KEPT_S) - 1)
        self.begins_s = self.begins_s[gone:kept] + piece.begins_s.tolist()
        self.coefficients = [*self.coefficients[gone:kept], *piece.coefficients]
        self.inertia = inertia

    def at(self, time_s: float) -> tuple[Floats, Floats, Floats]:
        """Return position, velocity and acceleration [7] (rad, s) at robot time `time_s`."""
        row = max(bisect_right(self.begins_s, time_s) - 1, 0)
        s = time_s - self.begins_s[row] if self.begins_s[row] > LONG_AGO_S else 0.0
        powers = np.array([1.0, s, s * s, s**3, s**4, s**5])
        slopes = np.array([0.0, 1.0, 2.0 * s, 3.0 * s * s, 4.0 * s**3, 5.0 * s**4])
        bends = np.array([0.0, 0.0, 2.0, 6.0 * s, 12.0 * s * s, 20.0 * s**3])
        segment = self.coefficients[row]
        return powers @ segment, slopes @ segment, bends @ segment

    @property
    def rest_s(self) -> float:
        """From when on the arm is held."""
        return self.begins_s[-1]
