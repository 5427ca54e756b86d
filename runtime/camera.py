"""The process of one camera: opens it, puts every frame into shared memory, opens it again when it was lost.

Started by the supervisor as `python -m poco.runtime.camera`, one for each camera that the policy sees through.
"""

from __future__ import annotations

import argparse
import os
import signal as signals
import time
from pathlib import Path

import numpy as np

from poco.clock import monotonic_ns
from poco.errors import CameraError, PocoError, exit_with
from poco.frames import Frame, FrameRing, ring_name
from poco.hw.cameras import CameraSource, Exposure, open_camera
from poco.records import FRAME_HEAD
from poco.runtime.process_arguments import process_arguments
from poco.runtime.run_events import CameraCounted, CameraOpened
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import RunOptions
from poco.settings import CameraSettings

READ_TIMEOUT_S = 0.25
SILENT_S = 2.0
COUNT_S = 10.0
PAUSE_S, PAUSE_MAX_S = 0.5, 5.0


class CameraProcess:
    """One camera of a run; every method belongs to its process."""

    def __init__(self, options: RunOptions, camera: CameraSettings) -> None:
        """Map the ring that the supervisor made; raises PocoError."""
        self._camera, self._sensors = camera, options.settings.task.sensors
        self._folder = RunFolder.open(Path(options.folder))
        self._ring = FrameRing(ring_name(options.run_name, camera.name))
        self._parent = os.getppid()
        self._head = np.zeros((), FRAME_HEAD)
        self._mark, self._repeats, self._ready = -1, 0, False
        self._number, self._frames, self._lost, self._repeated = 0, 0, 0, 0
        self._counted_s = time.monotonic()
        self.ended = False

    def run(self) -> None:
        """Deliver frames as long as the run lasts; raises PocoError if the camera cannot be opened the first time."""
        source, pause_s = self._open(), PAUSE_S
        while self._wanted:
            before = self._frames
            try:
                self._deliver(source)
            except CameraError as error:
                if not self._ready:
                    raise
                print(f"note {error}; it is opened again", flush=True)
            source.close()
            self._count()
            pause_s = PAUSE_S if self._frames > before else pause_s
            while self._wanted:
                time.sleep(pause_s)
                pause_s = min(2.0 * pause_s, PAUSE_MAX_S)
                try:
                    source = self._open()
                    break
                except PocoError as error:
                    print(f"note camera {self._camera.name} is still away: {error}", flush=True)

    @property
    def _wanted(self) -> bool:
        return not self.ended and os.getppid() == self._parent

    def _open(self) -> CameraSource:
        source, self._number = open_camera(self._camera, self._sensors), 0
        self._folder.append_event(CameraOpened(tick=0, camera=self._camera.name, facts=source.facts))
        return source

    def _deliver(self, source: CameraSource) -> None:
        """Publish frames until the run ends; raises CameraError if the camera is gone or gives none."""
        heard_s = time.monotonic()
        while self._wanted:
            exposure = source.read(READ_TIMEOUT_S)
            if time.monotonic() - self._counted_s > COUNT_S:
                self._count()
            if exposure is not None:
                self._publish(exposure)
                for remark in source.remarks():
                    print(f"note {remark}", flush=True)
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > SILENT_S:
                raise CameraError(f"camera {self._camera.name} gave no frame for {SILENT_S:.0f} s: look at its cable")

    def _count(self) -> None:
        """Record how many frames there were."""
        self._counted_s = time.monotonic()
        self._folder.append_event(
            CameraCounted(
                tick=0, camera=self._camera.name, frames=self._frames, lost=self._lost, repeated=self._repeated
            )
        )

    def _publish(self, exposure: Exposure) -> None:
        head = self._head
        self._repeats = self._repeats + 1 if exposure.mark == self._mark else 0
        self._mark = exposure.mark
        head["number"], head["t_ns"], head["received_ns"] = exposure.number, exposure.t_ns, monotonic_ns()
        self._frames, self._repeated = self._frames + 1, self._repeated + (self._repeats > 0)
        self._lost += max(0, exposure.number - self._number - 1) if self._number else 0
        self._number = exposure.number
        head["tick"], head["repeats"], head["serial"] = exposure.tick, self._repeats, exposure.serial
        self._ring.publish(Frame(head, exposure.pixels))
        if not self._ready:
            self._ready = True
            print("ready", flush=True)


def main() -> None:
    """Entry point of a camera's process; arguments come from the supervisor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camera", required=True, help="name of the camera in the settings")
    arguments, options = process_arguments(parser)
    (camera,) = (item for item in options.settings.cameras if item.name == arguments.camera)
    try:
        process = CameraProcess(options, camera)
        signals.signal(signals.SIGTERM, lambda number, frame: setattr(process, "ended", True))
        process.run()
    except PocoError as error:
        exit_with(error)
    except OSError as error:
        exit_with(CameraError(f"camera {camera.name} cannot be recorded ({error.strerror}): free space"))


if __name__ == "__main__":
    main()
