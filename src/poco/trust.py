"""Who may publish policies to a robot: publishers with Ed25519 keys, named in a list that a root key signs.

The robot knows one root key, which may stay off-line. The list names the publishers in force, each with an expiry and
the highest generation it may sign, and counts its revisions up; a lost publisher key is ended by a list without it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from poco.durable import write_durably
from poco.errors import ArtifactError
from poco.refusal import Reason, Refused

FORMAT = "poco-trust"
VERSION = 1
SIGNATURE_BYTES_MAX = 4096
LIST_BYTES_MAX = 1 << 16
PUBLISHERS_MAX = 64
PUBLISHER_NAME = "^[a-z0-9_-]{1,64}$"
LIST_FILE, LIST_SIGNATURE_FILE, ROOT_FILE = "trust.json", "trust.sig", "root.pub"
ROBOT = "robot"
"""Folder of these three, as poco-trust makes it for robots beside the private keys."""


PublicKey = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Purpose(StrEnum):
    """What a signature is for; it is signed along, so that no signature can serve another purpose."""

    ARTIFACT = "poco-artifact-manifest"
    TRUST = "poco-trust-list"


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A detached Ed25519 signature (RFC 8032) and the public key that is said to have made it, both hexadecimal."""

    key: PublicKey
    signature: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}$")]


class Publisher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that may sign artifacts, until when (seconds since 1970), and up to which generation."""

    name: Annotated[str, msgspec.Meta(pattern=PUBLISHER_NAME)]
    key: PublicKey
    expires_unix_s: int
    generation_max: Annotated[int, msgspec.Meta(ge=1)]


class TrustList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The publishers in force; the list of a higher revision replaces that of a lower one."""

    format: str
    version: int
    revision: Annotated[int, msgspec.Meta(ge=1)]
    publishers: Annotated[tuple[Publisher, ...], msgspec.Meta(max_length=PUBLISHERS_MAX)]


@dataclass(frozen=True, slots=True)
class Trust:
    """The robot's side: the list in force, already verified against the root key."""

    listed: TrustList

    @classmethod
    def read(cls, folder: Path, revision_min: int = 0) -> Trust:
        """Read root key, list and signature from `folder`.

        Raises Refused for a list that the root key did not sign or that is older than `revision_min`, ArtifactError for
        files that are missing or malformed.
        """
        if not (folder / ROOT_FILE).is_file() and (folder / ROBOT / ROOT_FILE).is_file():
            raise ArtifactError(
                f"{folder} has no {ROOT_FILE}: give its folder {ROBOT}, which poco-trust makes for robots"
            )
        root = _read_text(folder / ROOT_FILE, 256)
        payload = _read(folder / LIST_FILE, LIST_BYTES_MAX)
        verify(payload, _read(folder / LIST_SIGNATURE_FILE, SIGNATURE_BYTES_MAX), Purpose.TRUST, {root})
        try:
            listed = msgspec.json.decode(payload, type=TrustList)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ArtifactError(f"trust list {folder / LIST_FILE} is malformed ({error}): sign a new one") from error
        if (listed.format, listed.version) != (FORMAT, VERSION):
            raise ArtifactError(
                f"trust list {folder / LIST_FILE} is {listed.format} v{listed.version}, this poco reads v{VERSION}"
            )
        if listed.revision < revision_min:
            raise Refused(
                Reason.OLD_TRUST,
                f"trust list {folder / LIST_FILE} has revision {listed.revision}, this robot has seen {revision_min}: "
                "copy the newest list here",
            )
        return cls(listed)

    def publisher(self, payload: bytes, signature: bytes, now_unix_s: float) -> Publisher:
        """Return the publisher that signed the manifest `payload`; raises Refused if none in force did."""
        by_key = {publisher.key: publisher for publisher in self.listed.publishers}
        publisher = by_key[verify(payload, signature, Purpose.ARTIFACT, set(by_key))]
        if now_unix_s >= publisher.expires_unix_s:
            raise Refused(
                Reason.KEY_EXPIRED,
                f"the key of publisher {publisher.name} expired {now_unix_s - publisher.expires_unix_s:.0f} s ago: "
                "sign a trust list with a later expiry",
            )
        return publisher


def verify(payload: bytes, signature: bytes, purpose: Purpose, keys: set[str]) -> str:
    """Return the one of `keys` (hexadecimal) that signed `payload` for `purpose`; raises Refused with the reason if none did."""
    if len(signature) > SIGNATURE_BYTES_MAX:
        raise Refused(Reason.TOO_LARGE, f"the signature has {len(signature)} bytes, the limit is {SIGNATURE_BYTES_MAX}")
    try:
        document = msgspec.json.decode(signature, type=Signature)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(
            Reason.UNSIGNED, f"the signature is not one of poco's ({error}): sign with a key of poco-trust"
        ) from error
    if document.key not in keys:
        raise Refused(
            Reason.UNKNOWN_KEY, f"signed by the key {document.key[:12]}, which is not in force: sign with a trusted key"
        )
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(document.key)).verify(
            bytes.fromhex(document.signature), _signed(payload, purpose)
        )
    except InvalidSignature:
        raise Refused(
            Reason.BAD_SIGNATURE,
            f"the signature of key {document.key[:12]} does not fit: the content was changed after signing",
        ) from None
    return document.key


def sign(payload: bytes, purpose: Purpose, key: Ed25519PrivateKey) -> bytes:
    """Return the detached signature of `payload` as a JSON document; the publisher's process calls it."""
    made = key.sign(_signed(payload, purpose)).hex()
    return msgspec.json.encode(Signature(key=public_key(key), signature=made))


def public_key(key: Ed25519PrivateKey) -> str:
    """Return the public half of `key`, hexadecimal."""
    return key.public_key().public_bytes_raw().hex()


def write_private_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Write `key` as PEM for its owner's eyes only; raises ArtifactError if the file exists."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ArtifactError(f"{path} exists already: move the old key away before a new one takes its name") from None
    with open(descriptor, "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key; raises ArtifactError if it is missing, malformed or readable by others."""
    pem = _read(path, 1 << 14)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ArtifactError(
            f"private key {path} has the mode {mode:o}, others may read it: chmod 600 it, or make a new one"
        )
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"private key {path} is malformed ({error}): make a new one with poco-trust") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ArtifactError(f"private key {path} is not an Ed25519 key: make one with poco-trust")
    return key


def write_trust(folder: Path, listed: TrustList, root: Ed25519PrivateKey) -> None:
    """Write root key, list and signature for a robot into `folder`, the signature last; whoever holds the root key calls it."""
    folder.mkdir(parents=True, exist_ok=True)
    payload = msgspec.json.encode(listed)
    write_durably(folder / ROOT_FILE, public_key(root).encode() + b"\n")
    write_durably(folder / LIST_FILE, payload)
    write_durably(folder / LIST_SIGNATURE_FILE, sign(payload, Purpose.TRUST, root))


def _signed(payload: bytes, purpose: Purpose) -> bytes:
    return purpose.value.encode() + b"\n" + payload


def _read(path: Path, bytes_max: int) -> bytes:
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist: make it with poco-trust")
    with path.open("rb") as stream:
        payload = stream.read(bytes_max + 1)
    if len(payload) > bytes_max:
        raise ArtifactError(f"{path} has more than {bytes_max} bytes: it is not what its name says")
    return payload


def _read_text(path: Path, bytes_max: int) -> str:
    return _read(path, bytes_max).decode(errors="replace").strip()
