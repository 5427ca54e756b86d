"""A signature proves one publisher, one purpose and every byte; private keys stay private."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from poco.errors import ArtifactError
from poco.refusal import Reason, Refused
from poco.trust import Purpose, Trust, public_key, read_private_key, sign, verify, write_private_key, write_trust
from workshop import trust_list

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32)), Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))


@given(payload=st.binary(max_size=300), place=st.integers(0), bit=st.integers(0, 7))
def test_any_other_payload_key_or_purpose_is_refused(payload: bytes, place: int, bit: int) -> None:
    """What was signed verifies; one flipped bit, one byte more, another purpose or another key does not."""
    signature, keys = sign(payload, Purpose.ARTIFACT, KEY), {public_key(KEY)}
    assert verify(payload, signature, Purpose.ARTIFACT, keys) == public_key(KEY)
    changed = bytearray(payload + b"x")
    changed[place % len(changed)] ^= 1 << bit
    for wrong, purpose, known, reason in (
        (bytes(changed), Purpose.ARTIFACT, keys, Reason.BAD_SIGNATURE),
        (payload, Purpose.TRUST, keys, Reason.BAD_SIGNATURE),
        (payload, Purpose.ARTIFACT, {public_key(OTHER)}, Reason.UNKNOWN_KEY),
    ):
        with pytest.raises(Refused) as refused:
            verify(wrong, signature, purpose, known)
        assert refused.value.reason == reason


@given(signature=st.binary(max_size=400))
def test_garbage_is_no_signature(signature: bytes) -> None:
    """Arbitrary bytes in place of a signature are refused, whatever they are."""
    with pytest.raises(Refused) as refused:
        verify(b"payload", signature, Purpose.ARTIFACT, {public_key(KEY)})
    assert refused.value.reason == Reason.UNSIGNED


def test_the_list_says_who_may_publish_and_until_when(tmp_path: Path) -> None:
    """The listed publisher is found by its signature; after its expiry, and with another key, nobody is."""
    write_trust(tmp_path, trust_list(KEY, expires_unix_s=1000), OTHER)
    trust = Trust.read(tmp_path)
    signature = sign(b"manifest", Purpose.ARTIFACT, KEY)
    assert trust.publisher(b"manifest", signature, 999.0).name == "learner"
    with pytest.raises(Refused) as expired:
        trust.publisher(b"manifest", signature, 1000.0)
    assert expired.value.reason == Reason.KEY_EXPIRED
    with pytest.raises(Refused) as root:
        trust.publisher(b"manifest", sign(b"manifest", Purpose.ARTIFACT, OTHER), 999.0)
    assert root.value.reason == Reason.UNKNOWN_KEY


def test_private_keys_are_for_their_owner(tmp_path: Path) -> None:
    """A key comes back as written, is not overwritten, and is refused once others may read it."""
    path = tmp_path / "root.pem"
    write_private_key(path, KEY)
    assert public_key(read_private_key(path)) == public_key(KEY)
    with pytest.raises(ArtifactError, match="exists already"):
        write_private_key(path, OTHER)
    path.chmod(0o640)
    with pytest.raises(ArtifactError, match="640, others may read it"):
        read_private_key(path)
    path.chmod(0o600)
    path.write_bytes(b"no key")
    with pytest.raises(ArtifactError, match="malformed"):
        read_private_key(path)
