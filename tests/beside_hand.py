"""A test in the place of the program beside a hand, at a gripper server of Polymetis that is real."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from poco.hw.emulator.polymetis.gripper_service import GripperService
from poco.hw.polymetis.polymetis_pb2 import GripperCommand, GripperMetadata, GripperState

SECOND_NS = 1_000_000_000
Beside = Callable[[GripperCommand, GripperState], None]


@contextmanager
def beside(service: GripperService, beside: Beside, version: str = "") -> Iterator[None]:
    """Be the client beside a hand a hundred times a second: `beside` changes the state by the newest command."""
    over = threading.Event()

    def run() -> None:
        command, state = GripperCommand(), GripperState(width=0.08)
        while not over.wait(0.01):
            beside(command, state)
            told = GripperState()
            told.CopyFrom(state)
            told.timestamp.seconds, told.timestamp.nanos = divmod(time.time_ns(), SECOND_NS)
            command = service.control_update(told)

    service.init_client(GripperMetadata(hz=100, max_width=0.08, polymetis_version=version))
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
