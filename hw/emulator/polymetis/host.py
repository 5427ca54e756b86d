"""What runs in the controller server: the default hold or one uploaded controller, the log of states, the traps. No sockets.

Called by the arm's loop (`control_update`) and by the threads of the server; one lock lets a client's call wait until another's
is answered, one keeps swaps and control steps apart. Time is robot time, also where the real server looks at the wall clock,
so that an arm in lockstep may wait.
"""

from __future__ import annotations

import io
import threading
import warnings
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from poco.hw.polymetis.polymetis_pb2 import LogInterval, RobotClientMetadata, RobotState
from poco.limits import JOINTS

from .states import StateRing

Floats = npt.NDArray[np.float64]

POLL_S = 0.02
"""How often the server looks whether what it waits for has happened."""

STALE_TICKS = 1000
"""So long without a robot client the server calls it gone, and ends what ran."""

WARM_UPS = 5
INPUTS = ("joint_positions", "joint_velocities", "motor_torques_measured", "motor_torques_external")


class Refusal(Exception):
    """The server answers CANCELLED with these words."""


class Crash(Exception):
    """The server would be gone: it had followed a null pointer."""


class Phase(Enum):
    """Where the uploaded controller is in its life."""

    NONE = "none"
    READY = "ready"
    RUNNING = "running"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


class ControllerHost:
    """One life of the server, from its start to its crash or end."""

    def __init__(self) -> None:
        self.metadata: RobotClientMetadata | None = None
        self.states = StateRing()
        self.phase = Phase.NONE
        self.now_tick = 0
        self.updates = 0
        self._heard_tick = -1
        self._begin = self._end = -1
        self._custom: Any = None
        self._hold_q: Floats | None = None
        self._service, self._control = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self._arrays = {name: np.zeros(JOINTS, np.float32) for name in INPUTS}
        self._stamp = np.zeros(2, np.int32)
        self._input = {name: torch.from_numpy(array) for name, array in self._arrays.items()}
        self._input["timestamp"] = torch.from_numpy(self._stamp)

    @property
    def running(self) -> bool:
        """Whether an uploaded controller moves the arm."""
        return self.phase is Phase.RUNNING

    def init_client(self, metadata: RobotClientMetadata) -> None:
        """A robot client says what it is; what was known before is forgotten."""
        self.metadata, self._hold_q, self._heard_tick = metadata, None, self.now_tick
        self.phase, self._begin, self._end = Phase.NONE, -1, -1

    def jump(self, tick: int) -> None:
        """Robot time goes on at `tick`, without the robot client having been away."""
        self.now_tick = self._heard_tick = tick

    def living_metadata(self) -> RobotClientMetadata:
        """Return what the robot client said of itself, refused while none is alive."""
        if self.metadata is None or self.now_tick - self._heard_tick > STALE_TICKS:
            raise Refusal("Robot context not valid when calling GetRobotClientMetadata!")
        return self.metadata

    def control_update(self, state: RobotState, tick: int) -> Floats:
        """One control step of the robot client: log the state and return the torques [7] (N m), without gravity."""
        for name, array in self._arrays.items():
            array[:] = getattr(state, name)
        self._stamp[:] = state.timestamp.seconds, state.timestamp.nanos
        with self._control:
            if tick - self._heard_tick > STALE_TICKS and self.phase in (Phase.READY, Phase.RUNNING):
                self.phase = Phase.TERMINATING
            if self.phase is Phase.READY:
                self._begin, self.phase = self.states.count, Phase.RUNNING
            elif self.phase is Phase.TERMINATING:
                self._end, self.phase, self._hold_q = self.states.count - 1, Phase.TERMINATED, None
            torques = self._custom_torques() if self.running else self._holding_torques()
            del state.joint_torques_computed[:]
            state.joint_torques_computed.extend(torques.tolist())
            self.states.append(state.SerializeToString())
            if self.running and self._custom.is_terminated():
                self.phase = Phase.TERMINATING
        self._heard_tick = tick
        return torques.astype(np.float64)

    def set_controller(self, module: bytes) -> LogInterval:
        """Load, try and switch to the saved `module`; returns after its first control step."""
        with self._service:
            loaded = self._load(module)
            with self._control:
                self._custom, self.phase, self._begin, self._end = loaded, Phase.READY, -1, -1
            self._wait_while(Phase.READY)
            return self.interval()

    def update_controller(self, module: bytes) -> LogInterval:
        """Hand the parameters that the saved `module` returns to the running controller."""
        with self._service:
            if self._custom is None:
                raise Crash
            if not self.running:
                raise Refusal("Tried to perform a controller update with no controller running.")
            try:
                parameters = _read(module)()
                with self._control:
                    self._custom.update(parameters)
            except (RuntimeError, ValueError) as error:
                raise Refusal("Failed to load updated parameters") from error
            self.updates += 1
            return self.interval()

    def terminate(self) -> LogInterval:
        """End the running controller and wait until the default one has taken over."""
        with self._service:
            with self._control:
                if not self.running:
                    raise Refusal("Tried to terminate controller with no controller running.")
                self.phase = Phase.TERMINATING
            self._wait_while(Phase.TERMINATING)
            return self.interval()

    def interval(self) -> LogInterval:
        """Return the numbers of the first and the last state that the last controller made torques of, -1 for not (yet)."""
        return LogInterval(start=self._begin, end=self._end)

    def end(self) -> None:
        """The server ends: no call waits for a control step any more."""
        self._ended.set()

    def _wait_while(self, phase: Phase) -> None:
        while self.phase is phase and not self._ended.wait(POLL_S):
            pass

    def _load(self, module: bytes) -> Any:
        try:
            tried = _read(module)
            for _ in range(WARM_UPS):
                tried(self._input)["joint_torques"]
            return _read(module)
        except (RuntimeError, ValueError, KeyError) as error:
            raise Refusal("Failed to load new controller") from error

    def _custom_torques(self) -> npt.NDArray[np.float32]:
        torques: npt.NDArray[np.float32] = self._custom(self._input)["joint_torques"].numpy()
        return torques

    def _holding_torques(self) -> npt.NDArray[np.float32]:
        """The default controller: holds where it was begun."""
        assert self.metadata is not None
        q, dq = self._arrays["joint_positions"], self._arrays["joint_velocities"]
        if self._hold_q is None:
            self._hold_q = q.astype(np.float64)
        torques = np.array(self.metadata.default_Kq) * (self._hold_q - q) - np.array(self.metadata.default_Kqd) * dq
        return torques.astype(np.float32)


def _read(module: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(io.BytesIO(module))  # type: ignore[no-untyped-call]
