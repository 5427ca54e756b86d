"""A gamepad's sticks as deflections, and a clear refusal where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from poco.errors import UsageError
from poco.hw.devices.device import Command
from poco.hw.devices.gamepad import FINE, PRESSED, Gamepad, deflection_of, missing_pad

REST = {"LEFTX": 0, "LEFTY": 0, "RIGHTX": 0, "RIGHTY": 0}


@pytest.mark.parametrize(("stick", "axis"), [("LEFTY", 0), ("LEFTX", 1), ("RIGHTY", 2), ("RIGHTX", 3)])
def test_sticks(stick: str, axis: int) -> None:
    """Pushed away or to the left is positive on its own axis up to full deflection; the shoulder makes it fine."""
    pushed = deflection_of({**REST, stick: -32_768}, fine=False)
    assert pushed.tolist() == [float(number == axis) for number in range(4)]
    assert deflection_of({**REST, stick: 32_767}, fine=True)[axis] == -FINE


def test_a_stick_that_does_not_quite_return() -> None:
    """What a worn stick says at rest moves nothing."""
    assert (
        deflection_of({"LEFTX": 3000, "LEFTY": -2500, "RIGHTX": -3500, "RIGHTY": 900}, fine=False).tolist() == [0.0] * 4
    )


def test_every_command_has_a_button() -> None:
    """Whoever holds a pad needs no keyboard."""
    assert set(PRESSED.values()) == set(get_args(Command))


MOUSE = """I: Bus=0003 Vendor=046d Product=c077 Version=0111
N: Name="A mouse"
H: Handlers=mouse0 event3
B: EV=17"""
PAD = """I: Bus=0003 Vendor=045e Product=028e Version=0110
N: Name="An Xbox pad"
H: Handlers={file} js0
B: EV=20000b"""


def test_why_no_pad_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None there, one that may not be read and one that SDL does not know are told apart, each with what to do."""
    (tmp_path / "event7").touch()
    monkeypatch.setattr("poco.hw.devices.gamepad.INPUT_FILES", tmp_path)
    for listed, words in (
        ([], "no gamepad is plugged in"),
        ([MOUSE], "no gamepad is plugged in"),
        (
            [MOUSE, PAD.format(file="event8")],
            f"An Xbox pad may not be read ({tmp_path}/event8): let your user, by a rule of udev",
        ),
        ([PAD.format(file="event7"), MOUSE], "An Xbox pad is none that SDL knows"),
    ):
        assert words in str(missing_pad("\n\n".join(listed)))


def test_without_a_pad() -> None:
    """Where pygame or a pad is missing, one sentence names what to install or to plug in."""
    with pytest.raises(UsageError, match=r"pip install 'poco-robot\[gamepad\]'|no gamepad is plugged in"):
        Gamepad()
