"""The process that does what the gripper is told: one order after the other, each until it has ended.

Started by the gripper's process as `python -m poco.runtime.gripper_mover`, with a connection of its own, because the vendor's
library lets nothing else happen in a process that waits for the fingers. Orders come as lines on standard input.
"""

from __future__ import annotations

import argparse
import signal as signals
import sys
import time
from pathlib import Path

import msgspec

from poco.errors import PocoError, exit_with
from poco.gripping import Order
from poco.runtime.hand import connect_hand
from poco.runtime.run_options import RunOptions


class Ended(msgspec.Struct, frozen=True):
    """What became of an order, as one line on standard output."""

    outcome: str
    text: str
    took_s: float


def main() -> None:
    """Entry point of the mover's process; arguments come from the gripper's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--options", required=True, help="JSON file of RunOptions")
    arguments = parser.parse_args()
    signals.signal(signals.SIGINT, signals.SIG_IGN)
    settings = msgspec.json.decode(Path(arguments.options).read_bytes(), type=RunOptions).settings
    try:
        hand = connect_hand(settings)
    except PocoError as error:
        exit_with(error)
    print("ready", flush=True)
    for line in sys.stdin:
        order, began_s = msgspec.json.decode(line, type=Order), time.monotonic()
        outcome, text = hand.execute(order, settings.gripper)
        print(msgspec.json.encode(Ended(outcome, text, time.monotonic() - began_s)).decode(), flush=True)


if __name__ == "__main__":
    main()
