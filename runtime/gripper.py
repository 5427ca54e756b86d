"""The gripper's process: homes it, tells its state, gives it the newest target of the chunks, stops it. Never on the arm's thread.

Started by the supervisor as `python -m poco.runtime.gripper`. It looks and decides at every state of the gripper; what it decides
is done by a process of its own (`poco.runtime.gripper_mover`), so that a newer target can stop an order that is still on its way.
"""

from __future__ import annotations

import argparse
import os
import signal as signals
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from poco.clock import monotonic_ns
from poco.errors import GripperError, PocoError, exit_with
from poco.gripping import GripperWill, Hand, HandReading, Order, Timetable
from poco.records import GRIPPER_STATE
from poco.runtime.child import Child
from poco.runtime.entrance import Entrance
from poco.runtime.events import noted
from poco.runtime.gripper_mover import Ended
from poco.runtime.hand import connect_hand
from poco.runtime.run_events import GripperDone, GripperReady, GripperTold
from poco.runtime.run_folder import Event, RunFolder
from poco.runtime.run_options import RunOptions
from poco.shm import RunMemory
from poco.trouble import Mode, Request

START_LIMIT_S = 30.0
RETRY_S = 1.0
SETTLE_S = 0.5


class GripperProcess:
    """The gripper of one run; every method belongs to its process."""

    def __init__(self, options: RunOptions, memory: RunMemory) -> None:
        self._options, self._memory = options, memory
        self._entrance = Entrance(options.run_name, f"gripper-{time.time_ns() // 1_000_000}")
        self._folder = replace(RunFolder.open(Path(options.folder)), events_to=self._journal)
        self._parent = os.getppid()
        self._timetable, self._will = Timetable(), GripperWill(options.settings.gripper)
        self._record = np.zeros((), GRIPPER_STATE)
        self._under_way: Order | None = None
        self._stopping = False
        self._not_before_s = 0.0

    def run(self, homes: bool) -> None:
        """Serve until the run ends; `homes` finds the largest width first. Raises GripperError when the gripper is gone."""
        hand = connect_hand(self._options.settings)
        if homes or hand.read().width_max_m <= 0.0:
            hand.home()
        reading = hand.read()
        facts = hand.facts | {"largest width": f"{reading.width_max_m:.4f} m"}
        words = ["--options", str(Path(self._options.folder) / "options.json")]
        self._mover = Child("gripper-mover", "poco.runtime.gripper_mover", words, Path(self._options.folder))
        try:
            self._mover.wait_for("ready", START_LIMIT_S, lambda: None)
            self._folder.append_event(GripperReady(tick=self._tick, facts=facts))
            self._publish(reading)
            print("ready", flush=True)
            while os.getppid() == self._parent:
                self._look_around(hand)
        finally:
            self._leave(hand)

    @property
    def _tick(self) -> int:
        return int(self._memory.control()["tick"])

    def _look_around(self, hand: Hand) -> None:
        """Wait for the gripper's next state, tell it, and see whether the gripper is to be told something."""
        reading = hand.read()
        self._entrance.pump()
        self._take_end(reading)
        if not self._mover.running:
            raise GripperError(f"{self._mover.ending()}: see gripper-mover.log in the run folder")
        state = self._memory.read_state()
        chunk = self._memory.read_chunk()
        if chunk is not None:
            self._timetable.add(chunk)
        control = self._memory.control()
        if state is None or Mode(int(state["mode"])) == Mode.FAULT or control["request"] == Request.STOP:
            self._stop(hand)
        elif not self._stopping and time.monotonic() >= self._not_before_s:
            told_m, lead_ticks = self._will.told_m, self._will.lead_ticks
            target_m = self._timetable.width_m(int(state["tick"]), int(state["chunk_id"]), lead_ticks)
            if Mode(int(state["mode"])) == Mode.LED:
                target_m = float(control["led_width"])
            order = self._will.order(target_m, reading.width_max_m)
            if order is not None and self._under_way is not None:
                self._will.told_m = told_m
                self._stop(hand)
            elif order is not None:
                self._tell(order)
        self._publish(reading)

    def _tell(self, order: Order) -> None:
        self._under_way = order
        self._mover.say(msgspec.json.encode(order).decode())
        self._folder.append_event(GripperTold(tick=self._tick, order=order.kind, width_m=order.width_m))

    def _stop(self, hand: Hand) -> None:
        """Stop what is under way; the next order waits until that has ended."""
        if self._under_way is None or self._stopping:
            return
        self._stopping = True
        self._folder.append_event(GripperTold(tick=self._tick, order="stop", width_m=0.0))
        if trouble := hand.stop(self._under_way):
            print(f"note the gripper could not be stopped: {trouble}", flush=True)

    def _take_end(self, reading: HandReading) -> None:
        """See whether the order under way has ended."""
        for line in self._mover.lines():
            ended, order = msgspec.json.decode(line, type=Ended), self._under_way
            outcome = "stopped" if self._stopping and ended.outcome != "done" else ended.outcome
            self._under_way, self._stopping = None, False
            if order is None:
                continue
            done = GripperDone(
                tick=self._tick,
                order=order.kind,
                outcome=outcome,
                width_m=reading.width_m,
                took_s=round(ended.took_s, 3),
                text=ended.text,
            )
            self._folder.append_event(done)
            if outcome == "failed":
                self._will.forget()
                self._not_before_s = time.monotonic() + RETRY_S
                print(f"note the gripper failed to {order.kind} ({ended.text}); it is told again", flush=True)
            elif outcome == "stopped":
                self._will.forget()

    def _publish(self, reading: HandReading) -> None:
        record = self._record
        record["t_ns"], record["tick"] = monotonic_ns(), self._tick
        record["width"], record["max_width"], record["target"] = reading.width_m, reading.width_max_m, self._will.told_m
        record["moving"], record["grasped"] = self._under_way is not None, reading.grasped
        self._memory.publish_gripper(record)

    def _journal(self, event: Event) -> None:
        record = noted(event, 0)
        if record is not None:
            self._entrance.offer(record)

    def _leave(self, hand: Hand) -> None:
        """Stop the fingers where they are and end the mover; what is held stays held."""
        if self._under_way is not None and not self._stopping:
            hand.stop(self._under_way)
        self._mover.end()
        self._entrance.settle(SETTLE_S)


def main() -> None:
    """Entry point of the gripper's process; arguments come from the supervisor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--options", required=True, help="JSON file of RunOptions")
    parser.add_argument("--again", action="store_true", help="this is a restart: what is held is not let go by homing")
    arguments = parser.parse_args()
    signals.signal(signals.SIGINT, signals.SIG_IGN)
    signals.signal(signals.SIGTERM, signals.default_int_handler)
    options = msgspec.json.decode(Path(arguments.options).read_bytes(), type=RunOptions)
    try:
        GripperProcess(options, RunMemory.attach(options.run_name)).run(homes=not arguments.again)
    except KeyboardInterrupt:
        return
    except PocoError as error:
        exit_with(error)
    except OSError as error:
        exit_with(GripperError(f"what the gripper does cannot be recorded ({error.strerror}): free space"))


if __name__ == "__main__":
    main()
