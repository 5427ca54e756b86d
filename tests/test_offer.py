"""An offer survives its way as bytes; anything else that comes in its place is refused and never raises otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poco.offer import Offer, unpack_offer
from poco.refusal import Refused

FILES = st.dictionaries(st.text("abc.", min_size=1, max_size=8), st.binary(max_size=50), max_size=5)
OFFERS = st.builds(Offer, st.binary(max_size=100), st.binary(max_size=100), FILES)


@given(offer=OFFERS)
def test_round_trip(offer: Offer) -> None:
    """Whatever is offered arrives byte for byte; with one byte more or less, or over the limit, it does not arrive."""
    packed = offer.pack()
    assert unpack_offer(packed) == offer
    for wrong, limit in ((packed, len(packed) - 1), (packed[:-1], 1000), (packed + b"x", 1000)):
        with pytest.raises(Refused):
            unpack_offer(wrong, limit)


@given(packed=st.binary(max_size=200), offer=OFFERS, place=st.integers(0), byte=st.integers(0, 255))
def test_garbage_is_refused(packed: bytes, offer: Offer, place: int, byte: int) -> None:
    """Arbitrary bytes, and offers with one byte changed, unpack to an offer or are refused."""
    changed = bytearray(offer.pack())
    changed[place % len(changed)] = byte
    for candidate in (packed, bytes(changed)):
        try:
            unpack_offer(candidate)
        except Refused:
            continue
