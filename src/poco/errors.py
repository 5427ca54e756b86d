"""Errors a user can act on, and the exit code each one gives its program."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn

STANDARD_OUTPUT = 1
READER_GONE_EXIT = 141
"""What a shell gives a program that SIGPIPE ended."""


class PocoError(Exception):
    """One clear sentence with value, limit, unit and remedy; `exit_code` is documented in the README."""

    exit_code = 1


class UsageError(PocoError):
    """A flag or argument is wrong."""

    exit_code = 2


class SettingsError(PocoError):
    """The YAML file is missing, malformed or holds an unknown key or an impossible value."""

    exit_code = 3


class ArtifactError(PocoError):
    """A policy artifact, checkpoint or episode file is missing, corrupted or does not match."""

    exit_code = 4


class ArmError(PocoError):
    """The arm (real or emulated) cannot be reached, is in the wrong mode or refused a request."""

    exit_code = 5


class AddressError(PocoError):
    """A network address is taken, malformed or not reachable."""

    exit_code = 6


class RealtimeError(PocoError):
    """Real-time rights were required and are not there."""

    exit_code = 7


class MotionError(PocoError):
    """A motion cannot be planned inside the limits."""

    exit_code = 8


class FaultError(PocoError):
    """A run ended in a latched fault."""

    exit_code = 9


class CameraError(PocoError):
    """A camera is missing, is another one than expected or gives no pictures."""

    exit_code = 10


class GripperError(PocoError):
    """The gripper cannot be reached, did not find its width or is lost."""

    exit_code = 11


def exit_with(error: PocoError) -> NoReturn:
    """Print the sentence of `error` on standard error and leave with its exit code."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code)


def _reader_is_gone() -> bool:
    """Tell whether whoever read what this program prints has gone, such as `head`; nothing is printed from then on."""
    poll = select.poll()
    poll.register(STANDARD_OUTPUT, 0)
    gone = bool(poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
    return gone


def guard(main: Callable[[], None]) -> None:
    """Run the main function of a program so that a user sees sentences and never a traceback of ours."""
    try:
        main()
    except PocoError as error:
        exit_with(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            raise SystemExit(READER_GONE_EXIT) from None
        where = error.filename or "a file"
        exit_with(
            PocoError(f"{where} cannot be read or written ({error.strerror}): check its path, rights and free space")
        )
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "poco":
            raise
        exit_with(
            PocoError(
                f"{error.name} is not installed: install it, or the extra of poco-robot that needs it (torch: make learner)"
            )
        )
    except KeyboardInterrupt:
        raise SystemExit(130) from None
