"""`step()` ahead of robot time: what the controller in the server must know before its tick has come.

Every tick passes through the same `step()` as in the servo process, with all its checks, some ticks before robot time gets there.
What it decides is told to the controller as pieces of motion where it is new: a chunk that attaches, a stop that begins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco import _core
from poco.hw.polymetis.timeline import Piece, piece_of_chunk, piece_of_commands
from poco.records import ARM_STATE, COMMAND
from poco.trouble import BY_NAME, Mode, Request, Trouble

Floats = npt.NDArray[np.float64]
Record = npt.NDArray[np.void]

KEPT_TICKS = 8192
KEPT_CHUNKS = 8
STOP_TICKS_MAX = 2000
"""Longer than any stop inside the limits."""

MOVING = 2
"""robot_mode of the Franka Control Interface while a motion runs; states of other arms are told in its words."""


class Preview:
    """Commands of the ticks up to `lead_ticks` ahead; a plain state machine without clock or sockets."""

    def __init__(self, limits: Record, lead_ticks: int) -> None:
        self.memory = _core.Memory()
        self.tick = 0
        self._limits, self._lead_ticks = limits, lead_ticks
        self._state = np.zeros((), ARM_STATE)
        self._state["robot_mode"] = MOVING
        self._command = np.zeros((), COMMAND)
        self._kept = np.zeros(KEPT_TICKS, COMMAND)
        self._chunks: dict[int, Record] = {}
        self._origin_tick = self._end_tick = 0

    def begin(self, tick: int, q: Floats, origin_tick: int) -> None:
        """Begin, or begin anew, at robot tick `tick` with the arm held at `q` [7] (rad); faults and counters stay."""
        self.memory.reanchor()
        self.tick = tick - 1
        self._origin_tick = origin_tick
        self._command["q"], self._command["dq"], self._command["ddq"] = q, 0.0, 0.0
        self._command["mode"], self._command["chunk_id"] = Mode.HOLDING, 0

    def advance(self, tick: int, q: Floats, newest: Record | None, request: Request, recoveries: int) -> list[Piece]:
        """Decide up to `lead_ticks` after robot tick `tick`, where the joints are at `q`; returns what is new to the controller.

        The newest chunk is looked at in the last of these ticks, so that one which came too late for them is late. How far the
        arm is behind its command now is taken for how far it will be behind then.
        """
        if newest is not None:
            self._chunks[int(newest["chunk_id"])] = newest
            while len(self._chunks) > KEPT_CHUNKS:
                del self._chunks[min(self._chunks)]
        pieces: list[Piece] = []
        lag = q - (self.command(tick)["q"] if tick <= self.tick else self._command["q"])
        last = tick + self._lead_ticks
        while self.tick < last:
            before = self._command.copy()
            self.tick += 1
            self._state["q"] = before["q"] + lag
            self._step(newest if self.tick == last else None, request, recoveries)
            piece = self._news(before, request, recoveries)
            if piece is not None:
                pieces = [one for one in pieces if one.begins_s[0] < piece.begins_s[0]] + [piece]
        return pieces

    def command(self, tick: int) -> Record:
        """Return the COMMAND record of robot tick `tick`."""
        command: Record = self._kept[tick % KEPT_TICKS]
        return command

    def correct(self, tick: int, q: Floats) -> None:
        """What was decided for `tick` did not happen: the arm went to `q` [7] (rad), on its way to rest."""
        command = self.command(tick)
        command["q"], command["dq"], command["ddq"] = q, 0.0, 0.0
        command["mode"], command["chunk_id"] = Mode.BRAKING, 0

    def latch(self, trouble: Trouble) -> None:
        """Latch what was noticed outside of `step()`."""
        self.memory.latch(trouble.code)

    def _step(self, newest: Record | None, request: Request, recoveries: int) -> None:
        state, command = self._state, self._command
        state["tick"] = self.tick
        state["q_d"] = command["q"]
        _core.step(state, newest, request, self._limits, self.memory, command, recoveries)
        self._kept[self.tick % KEPT_TICKS] = command

    def _news(self, before: Record, request: Request, recoveries: int) -> Piece | None:
        """A chunk that attaches, or one that ends before its time, though the arm may not have moved yet."""
        follows, followed = (int(command["mode"]) == Mode.FOLLOWING for command in (self._command, before))
        chunk_id = int(self._command["chunk_id"])
        if follows and chunk_id != int(before["chunk_id"]):
            chunk = self._chunks[chunk_id]
            self._end_tick = int(chunk["attach_tick"]) + int(chunk["knots"][int(chunk["segments"])])
            return piece_of_chunk(chunk, self._origin_tick)
        if followed and not follows and self.tick < self._end_tick:
            return self._stop(before, request, recoveries)
        return None

    def _stop(self, before: Record, request: Request, recoveries: int) -> Piece:
        """Return the stop that has just begun, from the tick before it."""
        commands, spent_ns = np.zeros(STOP_TICKS_MAX, COMMAND), np.zeros(STOP_TICKS_MAX, np.int64)
        state, copy = self._state.copy(), self.memory.copy()
        state["tick"] = self.tick + 1
        state["q_d"] = self._command["q"]
        _core.follow(state, None, request, self._limits, copy, commands, spent_ns, STOP_TICKS_MAX, recoveries)
        still = np.flatnonzero(~commands["dq"].any(axis=1) & ~commands["ddq"].any(axis=1))
        rest = int(still[0]) + 1 if len(still) else STOP_TICKS_MAX
        whole = np.concatenate([before[None], self._command[None], commands[:rest]])
        return piece_of_commands(whole, self.tick - 1, self._origin_tick)


REFUSED = BY_NAME["gap_not_bridged"]
"""What is counted where the controller did not take what it was told in time."""
