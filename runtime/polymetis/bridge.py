"""The bridge's process: takes the servo's place for an arm behind a Polymetis server, whose own loop keeps the millisecond.

Started by the supervisor as `python -m poco.runtime.polymetis.bridge`. It reads the newest state, decides ahead of it by
`step()`, tells the controller in the server what is new, and publishes states, ticks and signs of life as the servo does, so
that every other process works unchanged. Prints "ready" and begins when it reads "go SECONDS": how long the arm may be silent,
0 for any time.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time

from poco.clock import monotonic_ns
from poco.errors import ArmError, PocoError, exit_with
from poco.hw.polymetis.arm import PolymetisArm, Reading
from poco.hw.polymetis.wire import ServerLost
from poco.runtime.polymetis.preview import REFUSED, Preview
from poco.runtime.polymetis.publisher import Publisher
from poco.runtime.process_arguments import process_arguments
from poco.runtime.run_options import RunOptions
from poco.runtime.servo import SUPERVISOR_TIMEOUT_S, wait_for_recovery
from poco.shm import RunMemory
from poco.trouble import BY_NAME, Mode, Request, Trouble

POLL_S = 0.0005
MISFITS_MAX = 3
"""So many states in a row may not be those of our timeline: one may have been between two updates."""

RESTART_LIMIT_S = 30.0


class Lost(Exception):
    """The arm has stopped by itself or the server runs something else; `trouble` is what is latched."""

    def __init__(self, trouble: str, words: str) -> None:
        super().__init__(words)
        self.trouble: Trouble = BY_NAME[trouble]


class Bridge:
    """One arm from its controller's start to its end; belongs to the single thread of the bridge's process."""

    def __init__(self, options: RunOptions, memory: RunMemory) -> None:
        settings = options.settings
        self._memory, self._settings = memory, settings
        self.arm = PolymetisArm(settings.robot, settings.polymetis)
        self.preview = Preview(options.step_limits(), options.lead_ticks)
        self._publisher = Publisher(memory, self.preview)
        self._silence_s = 0.0
        self._orphaned_ns = 0
        self._misfits, self._astray_until = 0, 0

    def run(self, silence_s: float) -> None:
        """Follow until the run is over; after the arm has stopped by itself latch, wait for the operator and begin anew."""
        self._silence_s = silence_s
        if silence_s > 0.0:
            self.arm.server.answer_limit_s = silence_s
        self._publisher.listen(self.arm.server)
        try:
            self._serve()
        finally:
            self.arm.disconnect()
            self._publisher.close()

    def _serve(self) -> None:
        while True:
            try:
                self._follow(self.arm.start())
                return
            except (Lost, ServerLost) as error:
                seen = int(self._memory.control()["recoveries"])
                trouble = error.trouble if isinstance(error, Lost) else BY_NAME["arm_silent"]
                self.preview.latch(trouble)
                self._publisher.failed()
                print(f"stopped {' '.join(str(error).split())}", flush=True)
            if not wait_for_recovery(self._memory, seen):
                return
            self._wait_for_arm()

    def _follow(self, reading: Reading) -> None:
        """The loop: newest state in, `step()` ahead, new pieces out; raises Lost or ServerLost."""
        arm, preview, publisher = self.arm, self.preview, self._publisher
        preview.begin(reading.tick, reading.q, arm.origin_tick)
        publisher.begin(reading.tick)
        self._misfits, self._astray_until = 0, 0
        last_tick, heard_s = reading.tick - 1, time.monotonic()
        while True:
            if reading.tick <= last_tick:
                self._check_silence(time.monotonic() - heard_s, reading.tick - last_tick)
                time.sleep(POLL_S)
                reading = arm.read()
                continue
            heard_s = time.monotonic()
            self._check(reading, last_tick)
            last_tick = reading.tick
            if not self._astray(reading):
                self._decide(reading)
            publisher.keep(reading.tick)
            if Mode(int(preview.command(reading.tick)["mode"])) == Mode.FINISHED:
                arm.stop()
                publisher.end()
                return
            reading = arm.read()

    def _decide(self, reading: Reading) -> None:
        """Decide ahead, publish, then tell the controller what is new."""
        control = self._memory.control()
        request = self._request(control)
        newest = self._memory.read_chunk()
        if self._memory.native.silence_announced(monotonic_ns()):
            self.preview.memory.hold_anew()
        pieces = self.preview.advance(reading.tick, reading.q, newest, request, int(control["recoveries"]))
        self._publisher.publish(reading)
        for piece in pieces:
            received_ns = monotonic_ns()
            self.arm.tell(piece)
            self._publisher.told(reading.tick, received_ns)

    def _check(self, reading: Reading, last_tick: int) -> None:
        """Raise Lost unless the state is sound and our controller made it; notice an update that was refused."""
        gap_max_s = self._settings.polymetis.gap_max_s
        if reading.error:
            raise Lost("arm_error", "the robot client reports an error")
        self._check_server()
        verdict = self.arm.verdict(reading)
        self._misfits = 0 if verdict == "follows" else self._misfits + 1
        if self._misfits < MISFITS_MAX:
            return
        if verdict != "refused":
            raise Lost(
                "arm_error",
                "the torques in the server are not those of our controller: it was replaced, or the server's clock jumped by more "
                f"than polymetis.gap_max_s ({gap_max_s:g} s)",
            )
        self._misfits = 0
        self._go_astray(reading)

    def _go_astray(self, reading: Reading) -> None:
        """The last update came too late: the arm comes to rest on what it had been told before."""
        self.arm.forget_update()
        self._astray_until = max(self.arm.rest_tick, reading.tick + 1)
        self._publisher.note(REFUSED)
        for tick in range(self._publisher.recorded_tick + 1, reading.tick + 1):
            self.preview.correct(tick, self.arm.desired(tick))

    def _astray(self, reading: Reading) -> bool:
        """Follow what the controller really does until it rests; True while that lasts."""
        if self._astray_until == 0:
            return False
        first = self._publisher.published_tick + 1
        for tick in range(first, reading.tick + 1):
            self.preview.correct(tick, self.arm.desired(tick))
        self._publisher.publish(reading)
        if reading.tick >= self._astray_until:
            self._astray_until = 0
            self.preview.begin(reading.tick + 1, self.arm.desired(reading.tick), self.arm.origin_tick)
        return True

    def _check_silence(self, silent_s: float, behind_ticks: int) -> None:
        if behind_ticks < 0:
            raise Lost("arm_error", f"the server's clock went back by {-behind_ticks} ms")
        if self._silence_s > 0.0 and silent_s > self._silence_s:
            raise Lost("arm_silent", f"the server had no new state for {silent_s:.2f} s")
        self._check_server()

    def _check_server(self) -> None:
        if not self.arm.still_runs():
            raise Lost("arm_error", "the server has ended our controller and holds the arm with its own")

    def _request(self, control: object) -> Request:
        """What the supervisor asks for; without its heartbeat hold, and in the end stop."""
        asked, beat_ns, now_ns = Request(int(control["request"])), int(control["supervisor_ns"]), monotonic_ns()  # type: ignore[index]
        lost = beat_ns != 0 and now_ns - beat_ns > SUPERVISOR_TIMEOUT_S * 1e9
        if not lost:
            self._orphaned_ns = 0
        if not lost or asked == Request.STOP:
            return asked
        self._orphaned_ns = self._orphaned_ns or now_ns
        orphaned_s = (now_ns - self._orphaned_ns) / 1e9
        return Request.STOP if orphaned_s > self._settings.servo.orphan_hold_s else Request.ORPHANED

    def _wait_for_arm(self) -> None:
        """Wait until the server has a living robot client again; raises ArmError after 30 s."""
        deadline_s = time.monotonic() + RESTART_LIMIT_S
        while True:
            try:
                self.arm.server.metadata()
                self.arm.check_ready()
                return
            except ArmError as error:
                if time.monotonic() > deadline_s:
                    raise ArmError(f"{error} (for {RESTART_LIMIT_S:.0f} s)") from error
                time.sleep(0.1)


def main() -> None:
    """Entry point of the bridge's process; arguments come from the supervisor."""
    _, options = process_arguments(argparse.ArgumentParser(description=__doc__))
    try:
        bridge = Bridge(options, RunMemory.attach(options.run_name))
        notes = bridge.arm.connect()
        bridge.arm.check_ready()
        print("ready " + "; ".join(notes), flush=True)
        word, _, silence_s = sys.stdin.readline().partition(" ")
        if word != "go":
            return
        gc.collect()
        gc.freeze()
        bridge.run(float(silence_s))
    except PocoError as error:
        exit_with(error)
    except BrokenPipeError as error:
        exit_with(ArmError(f"the supervisor is gone ({error})"))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
