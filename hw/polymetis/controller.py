"""The TorchScript controller that runs in the Polymetis server at 1 kHz, and the updates that tell it a motion.

Torch is imported here and nowhere else on the robot's side; only the bridge's process imports this module. The controller holds
a whole planned motion, so that one update a chunk suffices, comes to rest by itself when none follows, and takes no update that
is late, not finite or does not begin where the arm will be. Operators are those of old torch versions, because servers run
such.
"""

import io
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from poco.limits import POSITION_MAX_RAD, POSITION_MIN_RAD

from .timeline import LONG_AGO_S, Floats, Piece


class ChunkController(torch.nn.Module):
    """Joint impedance around a timeline of quintic segments: K (q_d - q) + D (dq_d - dq) + M ddq_d, clipped.

    Robot time is what the server passes as timestamp. Where that jumps, or the server was not asked for longer than
    `gap_max_s`, the motion goes on from where it was to its planned rest, and no further update is taken.
    """

    coefficients: Tensor
    inertia: Tensor
    stiffness: Tensor
    damping: Tensor
    torque_max: Tensor
    position_min: Tensor
    position_max: Tensor

    def __init__(
        self, stiffness: Tensor, damping: Tensor, torque_max: Tensor, origin_s: int, q: Tensor, gap_max_s: float
    ) -> None:
        super().__init__()
        self.origin_s = origin_s
        self.gap_max_s = gap_max_s
        self.heard_s = 0.0
        self.begun = False
        self.lost = False
        self.shift_s = 0.0
        self.row = 0
        self.begins_s = [LONG_AGO_S]
        self.register_buffer("coefficients", torch.zeros(1, 6, 7, dtype=torch.float64))
        self.register_buffer("inertia", torch.zeros(7, 7, dtype=torch.float64))
        self.register_buffer("stiffness", stiffness)
        self.register_buffer("damping", damping)
        self.register_buffer("torque_max", torque_max)
        self.register_buffer("position_min", torch.tensor(POSITION_MIN_RAD.tolist(), dtype=torch.float64))
        self.register_buffer("position_max", torch.tensor(POSITION_MAX_RAD.tolist(), dtype=torch.float64))
        self.coefficients[0, 0] = q

    def forward(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the torques [7] (N m) for the state that the server passes."""
        stamp = state["timestamp"]
        now_s = float(int(stamp[0]) - self.origin_s) + 1e-9 * float(int(stamp[1]))
        passed_s = now_s - self.heard_s
        if self.begun and (passed_s < 0.0 or passed_s > self.gap_max_s):
            self.lost = True
            self.shift_s += passed_s - 0.001
        self.begun = True
        self.heard_s = now_s
        desired = self.at(now_s - self.shift_s)
        q_d = torch.min(torch.max(desired[0], self.position_min), self.position_max)
        torque = self.stiffness * (q_d - state["joint_positions"].to(torch.float64))
        torque = torque + self.damping * (desired[1] - state["joint_velocities"].to(torch.float64))
        torque = torque + torch.mv(self.inertia, desired[2])
        torque = torch.min(torch.max(torque, -self.torque_max), self.torque_max)
        return {"joint_torques": torque.to(torch.float32)}

    @torch.jit.export
    def at(self, time_s: float) -> Tensor:
        """Return position, velocity and acceleration [3, 7] (rad, s) at robot time `time_s`."""
        row = self.row
        while row + 1 < len(self.begins_s) and self.begins_s[row + 1] <= time_s:
            row += 1
        while row > 0 and self.begins_s[row] > time_s:
            row -= 1
        self.row = row
        s = 0.0
        if self.begins_s[row] > -1.0e8:
            s = time_s - self.begins_s[row]
        s2 = s * s
        s3 = s2 * s
        s4 = s3 * s
        powers = [1.0, s, s2, s3, s4, s4 * s]
        slopes = [0.0, 1.0, 2.0 * s, 3.0 * s2, 4.0 * s3, 5.0 * s4]
        bends = [0.0, 0.0, 2.0, 6.0 * s, 12.0 * s2, 20.0 * s3]
        basis = torch.tensor(powers + slopes + bends, dtype=torch.float64)
        return torch.matmul(basis.reshape(3, 6), self.coefficients[row])

    @torch.jit.export
    def update(self, told: dict[str, Tensor]) -> None:
        """Take a piece of motion in place of everything from its beginning on; what cannot be taken changes nothing."""
        begins = told["begins_s"]
        coefficients = told["coefficients"]
        inertia = told["inertia"]
        count = coefficients.size(0)
        if self.lost or count < 1 or begins.size(0) != count:
            return
        sums = float(torch.sum(torch.abs(begins))) + float(torch.sum(torch.abs(coefficients)))
        sums += float(torch.sum(torch.abs(inertia)))
        if not sums < 1.0e15:
            return
        times: list[float] = begins.tolist()
        if times[0] <= self.heard_s:
            return
        ahead = self.at(times[0])
        if not float(torch.max(torch.abs(ahead[0] - coefficients[0][0]))) < 1.0e-4:
            return
        kept = 0
        gone = 0
        for begin_s in self.begins_s:
            if begin_s <= times[0] - 0.0005:
                kept += 1
            if begin_s <= self.heard_s - 2.0:
                gone += 1
        gone = max(gone - 1, 0)
        self.begins_s = self.begins_s[gone:kept] + times
        self.coefficients = torch.cat([self.coefficients[gone:kept], coefficients])
        self.inertia = inertia
        self.row = 0

    @torch.jit.export
    def is_terminated(self) -> bool:
        """Tell the server to go on."""
        return False


class _Told(torch.nn.Module):
    """What the server reads an update from: a module that returns its parameters."""

    begins_s: Tensor
    coefficients: Tensor
    inertia: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("begins_s", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(1, 6, 7, dtype=torch.float64))
        self.register_buffer("inertia", torch.zeros(7, 7, dtype=torch.float64))

    def forward(self) -> dict[str, Tensor]:
        return {"begins_s": self.begins_s, "coefficients": self.coefficients, "inertia": self.inertia}


def controller_bytes(
    stiffness: Floats, damping: Floats, torque_max: Floats, origin_s: int, q: Floats, gap_max_s: float
) -> bytes:
    """Return a saved ChunkController that holds `q` [7] (rad) and whose time 0 is second `origin_s` of the server's clock."""
    k, d, most, hold = (
        torch.tensor(values.tolist(), dtype=torch.float64) for values in (stiffness, damping, torque_max, q)
    )
    return _saved(_scripted(ChunkController(k, d, most, origin_s, hold, gap_max_s)))


class UpdateWriter:
    """Makes updates; the module is compiled once, each update only fills in its numbers."""

    def __init__(self) -> None:
        self._module = _scripted(_Told())

    def bytes_of(self, piece: Piece, inertia: Floats) -> bytes:
        """Return `piece` as the server takes an update, with the inertia [7, 7] (kg m^2) to feed forward from then on."""
        self._module.begins_s = torch.from_numpy(piece.begins_s)
        self._module.coefficients = torch.from_numpy(piece.coefficients)
        self._module.inertia = torch.from_numpy(inertia)
        return _saved(self._module)


def _scripted(module: torch.nn.Module) -> Any:
    return _undeprecated(lambda: torch.jit.script(module))


def _saved(module: Any) -> bytes:
    stream = io.BytesIO()
    _undeprecated(lambda: torch.jit.save(module, stream))
    return stream.getvalue()


def _undeprecated(act: Callable[[], Any]) -> Any:
    """Do `act` without torch's word that TorchScript is deprecated: the servers know nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return act()
