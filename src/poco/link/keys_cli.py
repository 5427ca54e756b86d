"""`poco-keys`: make one's own key of the link, say who is welcome and who no longer is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import tyro

from poco.command_line import Command, run_command
from poco.errors import guard
from poco.link.keys import KeyFolder

KEYS = Path("~/.config/poco/keys")
DESCRIPTION = """Keys of the link between robots and learner.

examples:
  poco-keys init learner --keys keys/learner       # on the learner: make its key, print the public half
  poco-keys init arm1 --keys keys/arm1             # on the robot
  poco-keys add arm1 'PUBLIC' --keys keys/learner  # on the learner: welcome the robot under its robot.name
  poco-keys add learner 'PUBLIC' --keys keys/arm1  # on the robot: the learner it connects to
  poco-keys revoke arm1 --keys keys/learner        # takes effect on a running learner within a second
  poco-keys list --keys keys/learner

Exit codes: 0 done, 2 usage, 3 keys missing or not readable."""

Keys = Annotated[Path, tyro.conf.arg(metavar="DIR")]
Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
Public = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PUBLIC")]


def init(name: Name, keys: Keys = KEYS) -> None:
    """Make a key pair and print its public half, with the command that makes it welcome on the other side.

    Args:
        name: What the key is called: `learner`, or the robot.name of a robot.
        keys: Folder of the keys.
    """
    folder = KeyFolder.create(keys.expanduser(), name)
    public = folder.own().public
    print(f"{name} {public}\non the other side: poco-keys add {name} {shlex.quote(public)} --keys DIR")


def add(name: Name, public: Public, keys: Keys = KEYS) -> None:
    """Welcome a peer by its public key.

    Args:
        name: Its name.
        public: Its public key, as `poco-keys list` shows it over there.
        keys: Folder of the keys.
    """
    KeyFolder(keys.expanduser()).add(name, public)


def revoke(name: Name, keys: Keys = KEYS) -> None:
    """Take a peer off the list.

    Args:
        name: Its name, for all its keys, or one public key.
        keys: Folder of the keys.
    """
    for peer in KeyFolder(keys.expanduser()).revoke(name):
        print(f"revoked {peer.name} {peer.public}")


def show(keys: Keys = KEYS) -> None:
    """List one's own public key and the welcome peers.

    Args:
        keys: Folder of the keys.
    """
    folder = KeyFolder(keys.expanduser())
    own = folder.own()
    print(f"own  {own.name} {own.public}")
    for peer in folder.peers():
        print(f"peer {peer.name} {peer.public}")


def main() -> None:
    """Entry point of `poco-keys`."""
    commands: dict[str, Command] = {"init": init, "add": add, "revoke": revoke, "list": show}
    guard(lambda: run_command(commands, "poco-keys", DESCRIPTION))
