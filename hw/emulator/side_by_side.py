"""Several emulated arms at once, each a process and a loopback address of its own, as a row of robots on a network is."""

from __future__ import annotations

import ipaddress
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import wait

from poco.errors import UsageError

ARMS_MAX = 64
END_TIMEOUT_S = 10.0


def addresses(host: str, arms: int) -> list[str]:
    """Return `arms` addresses counted up from `host`; raises UsageError where they are not all loopback addresses."""
    if not 1 <= arms <= ARMS_MAX:
        raise UsageError(f"--arms is {arms}, must lie in 1 to {ARMS_MAX}: each is a process that simulates at 1 kHz")
    if arms == 1:
        return [host]
    try:
        first = ipaddress.IPv4Address(host)
    except ipaddress.AddressValueError:
        raise UsageError(
            f"--host is {host}, must be an address such as 127.0.0.1 to count {arms} arms up from"
        ) from None
    found = [first + index for index in range(arms)]
    if not all(address.is_loopback for address in found):
        raise UsageError(f"{arms} arms from {host} on reach {found[-1]}, must stay in 127.0.0.0 to 127.255.255.255")
    return [str(address) for address in found]


def run_beside(arms: list[Callable[[], None]]) -> int:
    """Run each of `arms` in a process of its own until one ends or this one is interrupted, then end all.

    Returns the exit code of the first one that ended by itself.
    """
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=arm) for arm in arms]
    try:
        for process in processes:
            process.start()
        ended = wait([process.sentinel for process in processes])
        first = next(process for process in processes if process.sentinel in ended)
        first.join()
        return _exit_code(first.exitcode)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            process.join(END_TIMEOUT_S)


def _exit_code(code: int | None) -> int:
    """Return what a shell would say of a process that ended with `code`, negative where a signal ended it."""
    assert code is not None, "it has been joined"
    return 128 - code if code < 0 else code
