"""A SpaceMouse's reports: both layouts, directions, dead zone, buttons, nonsense, and a cable that is pulled."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from poco.errors import UsageError
from poco.hw.devices.spacemouse import LEFT, REPORTS_MAX, RIGHT, Reports, SpaceMouse, unreadable

HALF = 206
"""Raw value whose deflection beyond the dead zone is (206 / 350 - 0.06) / 0.94 = 0.5623."""

SHARE = (HALF / 350.0 - 0.06) / 0.94


def move(x: int, y: int, z: int, *turns: int) -> bytes:
    """Report 1, with the turns behind it where they are given."""
    return struct.pack(f"<B{3 + len(turns)}h", 1, x, y, z, *turns)


def turn(x: int, y: int, z: int) -> bytes:
    """Report 2."""
    return struct.pack("<B3h", 2, x, y, z)


@pytest.mark.parametrize(
    ("report", "axis", "sign"),
    [
        (move(0, -HALF, 0), 0, 1.0),
        (move(-HALF, 0, 0), 1, 1.0),
        (move(0, 0, -HALF), 2, 1.0),
        (move(0, 0, 0, 0, 0, -HALF), 3, 1.0),
        (turn(0, 0, HALF), 3, -1.0),
    ],
)
def test_directions(report: bytes, axis: int, sign: float) -> None:
    """Pushed away goes away, to the left goes left, pulled up goes up, turned anticlockwise turns so; in both layouts."""
    reports = Reports()
    reports.take(report)
    expected = np.zeros(4)
    expected[axis] = sign * SHARE
    np.testing.assert_allclose(reports.deflection, expected, atol=1e-12)


def test_a_resting_hand_and_a_rough_one() -> None:
    """A little deflection is none, more than full is full."""
    reports = Reports()
    reports.take(move(20, -20, 15))
    assert reports.deflection.tolist() == [0.0] * 4
    reports.take(move(0, -32768, 0))
    assert reports.deflection.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_button_is_one_command() -> None:
    """A button counts when it goes down, once, and again only after it was released."""
    reports = Reports()
    for held in (LEFT, LEFT | RIGHT, LEFT, 0, LEFT):
        reports.take(bytes([3, held]))
    assert reports.commands() == ("start", "discard", "start")
    assert reports.commands() == ()


def test_nonsense_changes_nothing() -> None:
    """Empty, cut and unknown reports leave everything as it was."""
    reports = Reports()
    reports.take(move(0, -350, 0))
    for report in (b"", b"\x01", b"\x01\x00\x01", b"\x17\x64", b"\x02\x00", b"\x03"):
        reports.take(report)
    assert reports.deflection.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert reports.commands() == ()


class Plugged:
    """What hidapi hands out, in place of a device: reports until the cable is pulled."""

    def __init__(self, reports: list[bytes]) -> None:
        self.reports, self.pulled, self.open = reports, False, True

    def read(self, max_length: int) -> list[int]:
        """The next report as hidapi gives it."""
        if self.pulled:
            raise OSError("read error")
        return list(self.reports.pop(0)) if self.reports else []

    def close(self) -> None:
        """No longer open."""
        self.open = False


def test_all_reports_are_taken_and_a_pulled_cable_rests() -> None:
    """A look takes everything that has come, but not without end; after the cable was pulled the hands rest and say why."""
    plugged = Plugged([move(0, -350, 0)] * REPORTS_MAX + [move(-350, 0, 0)])
    device = SpaceMouse(plugged)
    assert device.read().deflection.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert device.read().deflection.tolist() == [0.0, 1.0, 0.0, 0.0]
    plugged.pulled = True
    for _ in range(2):
        reading = device.read()
        assert reading.deflection.tolist() == [0.0] * 4
        assert "SpaceMouse is gone" in reading.lost


def test_it_is_given_back() -> None:
    """Whoever only looked whether it is there leaves it to the process that will read it."""
    plugged = Plugged([])
    SpaceMouse(plugged).close()
    assert not plugged.open


def test_one_that_may_not_be_read() -> None:
    """The sentence names device, file and the rule that lets a user read it."""
    listed = {"product_string": "SpaceMouse Compact", "path": b"/dev/hidraw3", "vendor_id": 0x256F}
    said = str(unreadable(listed, OSError("open failed")))
    for words in ("SpaceMouse Compact", "/dev/hidraw3: open failed", 'ATTRS{idVendor}=="256f"'):
        assert words in said


def test_without_a_device() -> None:
    """Where hidapi or a SpaceMouse is missing, one sentence names what to install or to plug in."""
    with pytest.raises(UsageError, match=r"pip install 'poco-robot\[spacemouse\]'|no SpaceMouse is plugged in"):
        SpaceMouse()
