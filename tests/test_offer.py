"""An offer survives its way as frames; anything else that comes as frames is refused and never raises otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poco.offer import Offer, decode_offer
from poco.refusal import Refused

FILES = st.dictionaries(st.text("abc.", min_size=1, max_size=8), st.binary(max_size=50), max_size=5)


@given(manifest=st.binary(max_size=100), signature=st.binary(max_size=100), files=FILES)
def test_round_trip(manifest: bytes, signature: bytes, files: dict[str, bytes]) -> None:
    """Whatever is offered arrives byte for byte, and one byte beyond the limit does not."""
    offer = Offer(manifest, signature, files)
    frames = offer.frames()
    assert decode_offer(frames) == offer
    with pytest.raises(Refused, match="the limit is"):
        decode_offer(frames, sum(map(len, frames)) - 1)


@given(frames=st.lists(st.binary(max_size=60), max_size=6))
def test_garbage_is_refused(frames: list[bytes]) -> None:
    """Arbitrary frames decode to an offer or are refused."""
    try:
        decode_offer(frames)
    except Refused:
        return
