"""Offers waiting for the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from full_disk import full_disk
from poco.runtime.incoming import FOLDER, leave_offer, newest_offer


def test_the_newest_offer_wins_whatever_an_earlier_start_of_the_computer_has_left(tmp_path: Path) -> None:
    """A file under a number that no clock of this start would reach, and one of an older poco, give way to what comes after."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / f"{10**18:020d}.offer").write_bytes(b"from before the reboot")
    (folder / f"{10**19:020d}-000000.offer").write_bytes(b"named by the clock of an older poco")
    for offer in (b"older", b"newest"):
        leave_offer(tmp_path, offer)
    assert newest_offer(tmp_path, 100) == b"newest"
    assert newest_offer(tmp_path, 100) is None


def test_offers_that_the_disk_does_not_take_leave_no_more_than_one_behind(tmp_path: Path) -> None:
    """What was written of them is overwritten by the next, so that a disk that is nearly full does not fill up with them."""
    with full_disk(room_bytes=1000):
        for _ in range(3):
            with pytest.raises(OSError, match="File too large"):
                leave_offer(tmp_path, bytes(5000))
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    leave_offer(tmp_path, b"offer")
    assert newest_offer(tmp_path, 100) == b"offer"
    assert list((tmp_path / FOLDER).iterdir()) == []
