"""`poco-trust`: who may publish policies to robots."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from poco.command_line import Command, run_command
from poco.errors import ArtifactError, UsageError, guard
from poco.trust import (
    FORMAT,
    PUBLISHER_NAME,
    PUBLISHERS_MAX,
    ROBOT,
    VERSION,
    Publisher,
    Trust,
    TrustList,
    public_key,
    read_private_key,
    write_private_key,
    write_trust,
)

TRUST = Path("~/.config/poco/trust")
ROOT = "root.key"
DAY_S = 86_400
DAYS_MAX = 36_500
DESCRIPTION = """The keys that sign policies, and the list of them that robots believe.

examples:
  poco-trust init                      # make a root key, a first publisher "learner" and the list with it
  poco-trust add laboratory --days 30  # another publisher, for a month
  poco-trust remove learner            # end a publisher, such as one whose key was lost
  poco-trust list

The folder robot in it (root.pub, trust.json, trust.sig) is for the robots: copy it there, give it as --swap.trust, and copy
it again after every change. NAME.key is for poco-learner serve --signing-key. root.key is needed for changes only and can
be kept off-line.

Exit codes: 0 done, 2 usage, 4 keys or list missing or not readable."""

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]


def init(folder: Folder = TRUST, days: int = 365, generations: int = 1_000_000) -> None:
    """Make a root key, the publisher `learner` and the list for the robots.

    Args:
        folder: Where they are kept.
        days: How long the publisher is in force.
        generations: The highest generation it may sign.
    """
    _check("learner", days, generations)
    folder = folder.expanduser()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private_key(folder / ROOT, Ed25519PrivateKey.generate())
    _sign(folder, 1, (_publisher(folder, "learner", days, generations),))
    print(f"keys and list are in {folder}; robots take its folder {ROBOT} as --swap.trust: {folder / ROBOT}")


def add(name: Name, folder: Folder = TRUST, days: int = 365, generations: int = 1_000_000) -> None:
    """Make the key of another publisher and put it on the list.

    Args:
        name: What it is called.
        folder: Where keys and list are kept.
        days: How long it is in force.
        generations: The highest generation it may sign.
    """
    _check(name, days, generations)
    folder = folder.expanduser()
    listed = Trust.read(folder / ROBOT).listed
    if len(listed.publishers) >= PUBLISHERS_MAX:
        raise UsageError(f"the list has {len(listed.publishers)} publishers, the most it can: remove one first")
    if any(publisher.name == name for publisher in listed.publishers):
        raise ArtifactError(f"publisher {name} is on the list already: remove it first, or choose another name")
    _sign(folder, listed.revision + 1, (*listed.publishers, _publisher(folder, name, days, generations)))


def remove(name: Name, folder: Folder = TRUST) -> None:
    """Take a publisher off the list; robots that have the new list believe nothing it has signed.

    Args:
        name: What it is called.
        folder: Where keys and list are kept.
    """
    folder = folder.expanduser()
    listed = Trust.read(folder / ROBOT).listed
    left = tuple(publisher for publisher in listed.publishers if publisher.name != name)
    if len(left) == len(listed.publishers):
        known = ", ".join(publisher.name for publisher in left) or "nobody"
        raise ArtifactError(f"publisher {name} is not on the list: on it are {known}")
    _sign(folder, listed.revision + 1, left)


def show(folder: Folder = TRUST) -> None:
    """Show the list: name, key, until when and up to which generation.

    Args:
        folder: Where keys and list are kept, or a robot's copy of the list.
    """
    folder = folder.expanduser()
    listed = Trust.read(folder / ROBOT if (folder / ROBOT).is_dir() else folder).listed
    print(f"revision {listed.revision}")
    for publisher in listed.publishers:
        until = datetime.fromtimestamp(publisher.expires_unix_s, UTC)
        print(f"{publisher.name} {publisher.key} until {until:%Y-%m-%d} up to generation {publisher.generation_max}")


def _check(name: str, days: int, generations: int) -> None:
    if not re.fullmatch(PUBLISHER_NAME, name):
        raise UsageError(
            f"publisher name {name!r} must be 1 to 64 small letters, digits, dashes or underscores, such as laboratory"
        )
    if not 1 <= days <= DAYS_MAX:
        raise UsageError(f"--days is {days} d, must lie in 1 to {DAYS_MAX} d: choose for example 365")
    if generations < 1:
        raise UsageError(f"--generations is {generations}, must be 1 or more: leave it out for a million")


def _publisher(folder: Path, name: str, days: int, generations: int) -> Publisher:
    key = Ed25519PrivateKey.generate()
    publisher = Publisher(
        name=name,
        key=public_key(key),
        expires_unix_s=int(time.time()) + days * DAY_S,
        generation_max=generations,
    )
    write_private_key(folder / f"{name}.key", key)
    return publisher


def _sign(folder: Path, revision: int, publishers: tuple[Publisher, ...]) -> None:
    listed = TrustList(format=FORMAT, version=VERSION, revision=revision, publishers=publishers)
    write_trust(folder / ROBOT, listed, read_private_key(folder / ROOT))
    show(folder)


def main() -> None:
    """Entry point of `poco-trust`."""
    commands: dict[str, Command] = {"init": init, "add": add, "remove": remove, "list": show}
    guard(lambda: run_command(commands, "poco-trust", DESCRIPTION))
