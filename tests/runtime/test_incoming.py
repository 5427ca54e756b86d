"""Offers waiting for the gate."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from poco.runtime.incoming import FOLDER, leave_offer, newest_offer


def test_offers_that_the_disk_does_not_take_leave_no_more_than_one_behind(tmp_path: Path) -> None:
    """What was written of them is overwritten by the next, so that a disk that is nearly full does not fill up with them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="File too large"):
                leave_offer(tmp_path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    leave_offer(tmp_path, b"offer")
    assert newest_offer(tmp_path, 100) == b"offer"
    assert list((tmp_path / FOLDER).iterdir()) == []
