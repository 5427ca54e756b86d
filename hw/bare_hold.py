"""The least a client of the vendor's library can do: hold the arm where it is. What the servo loop is measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.clock import monotonic_ns


def hold(host: str, ticks: int) -> npt.NDArray[np.int64]:
    """Hold the arm at `host` for `ticks` and return when each state was received and its command sent [2, ticks] (ns).

    Opens and closes a connection of its own; for a benchmark's process only. Raises the library's exceptions.
    """
    import pylibfranka

    stamps_ns = np.zeros((2, ticks), np.int64)
    received_ns, sent_ns = stamps_ns
    robot = pylibfranka.Robot(host, pylibfranka.RealtimeConfig.kIgnore)
    control = robot.start_joint_position_control(pylibfranka.ControllerMode.JointImpedance)
    state, _ = control.readOnce()
    command = pylibfranka.JointPositions(state.q_d)
    control.writeOnce(command)
    for tick in range(ticks):
        control.readOnce()
        received_ns[tick] = monotonic_ns()
        control.writeOnce(command)
        sent_ns[tick] = monotonic_ns()
    control.readOnce()
    command.motion_finished = True
    control.writeOnce(command)
    return stamps_ns
