"""Keys of the link: a folder (0700) with one's own key pair (0600) and the list of peers that are welcome.

```
own.json      name, public and secret key (CURVE, Z85); made once by `poco-keys init`
peers.json    the names and public keys that may connect, or that one connects to
```
A robot's name in the learner's list is the name it must use on the link. A name may have two keys while one takes over from the
other.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from poco.durable import write_durably
from poco.errors import SettingsError, UsageError

OWN, PEERS = "own.json", "peers.json"
LEARNER = "learner"
MAX_FILE_BYTES = 1 << 20

Key = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]

_S = TypeVar("_S", bound=msgspec.Struct)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


class OwnKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One's own key pair."""

    name: Name
    public: Key
    secret: Key

    def __repr__(self) -> str:
        return f"OwnKey({self.name}, {self.public})"


class Peer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A welcome peer."""

    name: Name
    public: Key


class _Peers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    peers: list[Peer]


class KeyFolder:
    """The keys in one folder; any process may read, `poco-keys` writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, name: str) -> KeyFolder:
        """Make a key pair for `name` in `path`; raises UsageError if there is one or the name does not fit."""
        import zmq

        if not _NAME.fullmatch(name):
            raise UsageError(f"key name {name!r} must be 1 to 64 letters, digits, dots, dashes or underscores")
        if (path / OWN).exists():
            raise UsageError(f"{path / OWN} is there already: choose another --keys folder or remove it first")
        public, secret = zmq.curve_keypair()
        while public.startswith(b"-"):  # a command line would take it for a flag
            public, secret = zmq.curve_keypair()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
        except OSError as error:
            raise UsageError(f"key folder {path} cannot be made ({error.strerror}): choose another --keys") from error
        folder = cls(path)
        folder._write(OWN, OwnKey(name=name, public=public.decode(), secret=secret.decode()))
        folder._write(PEERS, _Peers(peers=[]))
        return folder

    def own(self) -> OwnKey:
        """Return one's own key pair; raises SettingsError if there is none, or if others may read it."""
        file = self.path / OWN
        if file.is_file() and file.stat().st_mode & 0o077:
            raise SettingsError(f"{file} may be read by others (mode {file.stat().st_mode & 0o777:o}): chmod 600 it")
        return self._read(OWN, OwnKey)

    def peers(self) -> list[Peer]:
        """Return the welcome peers; raises SettingsError if the list is missing or not readable."""
        return self._read(PEERS, _Peers).peers

    def peer(self, name: str) -> Peer:
        """Return the newest key of `name`; raises SettingsError if it is not in the list."""
        found = [peer for peer in self.peers() if peer.name == name]
        if not found:
            raise SettingsError(f"{self.path} has no key of {name}: poco-keys add {name} PUBLIC_KEY --keys {self.path}")
        return found[-1]

    def add(self, name: str, public: str) -> None:
        """Welcome `public` as `name`; raises UsageError for a word that is no key or is there already."""
        if not _NAME.fullmatch(name) or not _KEY.fullmatch(public):
            raise UsageError(
                f"{name} {public} is not a name and a public key of 40 letters, as `poco-keys list` shows it: "
                "put the key in single quotes, its letters mean something to the shell"
            )
        peers = self.peers()
        for peer in peers:
            if peer.public == public:
                raise UsageError(f"this key is in the list already, as {peer.name}: revoke it first")
        self._write(PEERS, _Peers(peers=[*peers, Peer(name=name, public=public)]))

    def revoke(self, word: str) -> list[Peer]:
        """Take a name with all its keys, or one public key, off the list; return what was taken. Raises UsageError for none."""
        peers = self.peers()
        gone = [peer for peer in peers if word in (peer.name, peer.public)]
        if not gone:
            raise UsageError(f"{self.path} has no key {word}: see poco-keys list")
        self._write(PEERS, _Peers(peers=[peer for peer in peers if peer not in gone]))
        return gone

    def _write(self, name: str, content: msgspec.Struct) -> None:
        previous = os.umask(0o077)
        try:
            write_durably(self.path / name, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        finally:
            os.umask(previous)

    def _read(self, name: str, kind: type[_S]) -> _S:
        file = self.path / name
        if not file.is_file():
            raise SettingsError(f"no keys at {self.path}: make some with poco-keys init NAME --keys {self.path}")
        try:
            content = file.read_bytes() if file.stat().st_size <= MAX_FILE_BYTES else b""
            return msgspec.json.decode(content, type=kind)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SettingsError(f"key file {file} is not readable ({error}): repair it or make new keys") from error
