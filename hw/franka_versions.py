"""Which arm speaks which protocol of the Franka Control Interface, and what to install where the client library speaks another."""

from __future__ import annotations

import re
from typing import NamedTuple

PROTOCOL = 10
"""What pylibfranka 0.21 speaks."""

_SERVER_VERSION = re.compile(r"server version:\s*(\d+)")


class Speaker(NamedTuple):
    """Who speaks a protocol: the arm, its system image and the vendor's library for it."""

    arm: str
    system: str
    library: str


SPEAKERS = {
    10: Speaker("FR3", "5.9 or newer", "0.18 to 0.21"),
    9: Speaker("FR3", "5.7.2 to 5.8", "0.15 to 0.17"),
    8: Speaker("FR3", "5.7.0", "0.14"),
    7: Speaker("FR3", "5.5 to 5.6", "0.13.3"),
    6: Speaker("FR3", "5.2 to 5.4", "0.10 to 0.13.2"),
    5: Speaker("Panda", "4.2.1 or newer", "0.9"),
    4: Speaker("Panda", "4.0 to 4.1", "0.8"),
}
"""The vendor's compatibility matrix of arm, system image and libfranka."""


def server_protocol(text: str) -> int | None:
    """Return the protocol of the arm that the client library complains of in `text`, None where it names none."""
    found = _SERVER_VERSION.search(text)
    return None if found is None else int(found[1])


def wrong_protocol(host: str, protocol: int | None, installed: str) -> str:
    """Return in one sentence that the arm at `host` speaks `protocol`, pylibfranka `installed` does not, and what helps."""
    spoken = "another protocol" if protocol is None else f"protocol {protocol}"
    speaker = SPEAKERS.get(protocol or 0)
    if speaker is not None:
        spoken += f" ({speaker.arm}, system {speaker.system})"
    return f"the arm at {host} speaks {spoken}, pylibfranka {installed} does not: {remedy(protocol)}"


def remedy(protocol: int | None) -> str:
    """Return what to do where the arm speaks `protocol`, None for one that is not known."""
    speaker = SPEAKERS.get(protocol or 0)
    if protocol == PROTOCOL:
        return "pip install 'pylibfranka==0.21.3'"
    if protocol is not None and protocol > PROTOCOL:
        return f"its system is newer than poco, which is made for protocol {PROTOCOL}: ask for a newer poco"
    if speaker is None:
        return "poco needs an FR3 of system 5.9 or newer, and pip install 'pylibfranka==0.21.3'"
    if speaker.arm == "Panda":
        return (
            f"no wheel of pylibfranka speaks {protocol}, a Panda moves behind a Polymetis server built on libfranka "
            f"{speaker.library}, with --robot polymetis (docs/franka.md)"
        )
    return (
        f"bring the arm's system to 5.9 or newer in Desk; no wheel of pylibfranka speaks {protocol} "
        f"(that was libfranka {speaker.library})"
    )
