"""What every process that the supervisor starts does first: read its arguments and leave Ctrl-C to the supervisor."""

from __future__ import annotations

import argparse
import signal as signals
from pathlib import Path

import msgspec

from poco.runtime.run_options import RunOptions


def process_arguments(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, RunOptions]:
    """Return what `parser` finds on the command line and the options of the run; SIGINT is ignored from here on."""
    parser.add_argument("--options", required=True, type=Path, help="JSON file of RunOptions")
    arguments = parser.parse_args()
    signals.signal(signals.SIGINT, signals.SIG_IGN)
    return arguments, msgspec.json.decode(arguments.options.read_bytes(), type=RunOptions)
