"""Planned chunks and the controller that is told them, without a server: what the server would do with its bytes."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from poco.clock import TICKS_PER_SECOND
from poco.hw.polymetis.controller import UpdateWriter, controller_bytes
from poco.hw.polymetis.timeline import Piece, Timeline
from poco.limits import PLANNING_MARGINS, TORQUE_MAX_NM, fr3_limits
from poco.motion import plan_path

Floats = npt.NDArray[np.float64]

ORIGIN_S = 5
HELD_RAD = np.array([0.0, -0.7854, 0.0, -2.356, 0.0, 1.5708, 0.7854])
STIFFNESS, DAMPING = np.full(7, 600.0), np.full(7, 40.0)
INERTIA = np.diag([1.2, 1.7, 1.1, 1.0, 0.2, 0.2, 0.1]) + 0.05
LIMITS = fr3_limits(PLANNING_MARGINS)
GAP_MAX_S = 0.02


def loaded(module: bytes) -> Any:
    """Load a saved module as the server does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(io.BytesIO(module))  # type: ignore[no-untyped-call]


def controller(origin_s: int, q: Floats) -> bytes:
    """A saved controller that holds `q` [7] (rad)."""
    return controller_bytes(STIFFNESS, DAMPING, TORQUE_MAX_NM, origin_s, q, GAP_MAX_S)


def update(piece: Piece, inertia: Floats) -> bytes:
    """A saved update."""
    return UpdateWriter().bytes_of(piece, inertia)


class _Ending(torch.nn.Module):
    """Gives no torque and ends after some calls, not counting those before it is saved."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def forward(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Count."""
        self.left -= 1
        return {"joint_torques": torch.zeros(7)}

    @torch.jit.export
    def update(self, told: dict[str, torch.Tensor]) -> None:
        """Take nothing."""

    @torch.jit.export
    def is_terminated(self) -> bool:
        """Say whether it has ended."""
        return self.left <= 0


class _Counting(torch.nn.Module):
    """Gives a torque and adds to it how many more updates have begun than ended; an update takes some milliseconds."""

    def __init__(self, torque_nm: float) -> None:
        super().__init__()
        self.torque_nm = torque_nm
        self.begun = 0
        self.ended = 0

    def forward(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the torques."""
        return {"joint_torques": torch.full((7,), self.torque_nm + float(self.begun - self.ended))}

    @torch.jit.export
    def update(self, told: dict[str, torch.Tensor]) -> None:
        """Count at the beginning and at the end."""
        self.begun += 1
        work = torch.ones(64, 64)
        for _ in range(200):
            work = torch.tanh(torch.matmul(work, work))
        self.ended += int(work.numel() > 0)

    @torch.jit.export
    def is_terminated(self) -> bool:
        """Go on."""
        return False


class _NothingTold(torch.nn.Module):
    """An update without parameters."""

    def forward(self) -> dict[str, torch.Tensor]:
        """Tell nothing."""
        return {"nothing": torch.zeros(1)}


def ending_controller(calls: int) -> bytes:
    """A saved controller that ends by itself after so many calls."""
    return _saved(_Ending(calls))


def counting_controller(torque_nm: float = 0.0) -> bytes:
    """A saved controller whose torque (N m) is another one in the middle of an update."""
    return _saved(_Counting(torque_nm))


def nothing_told() -> bytes:
    """A saved update that counts and tells nothing."""
    return _saved(_NothingTold())


def _saved(module: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def chunk(attach_tick: int, start: Floats, *offsets: float, speed: float = 1.0) -> npt.NDArray[np.void]:
    """A chunk from rest at `start` through poses that differ by `offsets` (rad) in every joint, ending at rest."""
    waypoints = np.stack([start + offset for offset in offsets])
    return plan_path(start, waypoints, attach_tick, 1, 0, 0, LIMITS, speed).spline


def at_rest(spline: npt.NDArray[np.void]) -> Floats:
    """Where a chunk ends."""
    last = int(spline["segments"]) - 1
    seconds = (int(spline["knots"][last + 1]) - int(spline["knots"][last])) / TICKS_PER_SECOND
    end: Floats = np.power(seconds, np.arange(6)) @ spline["coefficients"][last]
    return end


def stamped(tick: float, q: npt.ArrayLike, dq: npt.ArrayLike) -> dict[str, torch.Tensor]:
    """What the server passes to a controller at robot tick `tick`."""
    stamp = [int(tick // TICKS_PER_SECOND), round(tick % TICKS_PER_SECOND * 1e6)]
    return {
        "timestamp": torch.tensor(stamp, dtype=torch.int32),
        "joint_positions": torch.from_numpy(np.asarray(q, np.float32)),
        "joint_velocities": torch.from_numpy(np.asarray(dq, np.float32)),
    }


class Told:
    """A controller in the server's place and the timeline that is kept of it."""

    def __init__(self) -> None:
        self.controller = loaded(controller_bytes(STIFFNESS, DAMPING, TORQUE_MAX_NM, ORIGIN_S, HELD_RAD, GAP_MAX_S))
        self.timeline = Timeline(HELD_RAD)
        self.writer = UpdateWriter()
        self.q, self.dq = HELD_RAD.astype(np.float32), np.zeros(7, np.float32)

    def tell(self, piece: Piece, inertia: Floats = INERTIA) -> None:
        """Update the controller."""
        self.controller.update(loaded(self.writer.bytes_of(piece, inertia))())

    def torque(self, tick: float) -> Floats:
        """The controller's torques at robot tick `tick`."""
        state = stamped(tick, self.q, self.dq)
        torques: Floats = self.controller(state)["joint_torques"].numpy().astype(np.float64)
        return torques

    def expected(self, tick: float) -> Floats:
        """The torques that the timeline stands for."""
        q_d, dq_d, ddq_d = self.timeline.at(tick / TICKS_PER_SECOND - ORIGIN_S)
        torque = STIFFNESS * (q_d - self.q) + DAMPING * (dq_d - self.dq) + self.timeline.inertia @ ddq_d
        return np.clip(torque, -TORQUE_MAX_NM, TORQUE_MAX_NM)
