"""The task signals chosen in the settings reach the right driver."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from poco.errors import AddressError, SettingsError
from poco.hw.task_driver import TaskDriver, nothing_seen

HOST = "127.0.5.51"


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    words = [sys.executable, "-m", "poco.hw.emulator", "--host", HOST]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("poco-emulator ready")
    yield f"emulator://{HOST}"
    process.terminate()
    process.wait(10)


def test_one_emulator_gives_all_three_signals(emulator: str) -> None:
    """The same address thrice is one connection whose signal carries pose and outcome, and `place` moves the hole."""
    driver = TaskDriver(emulator, emulator, emulator)
    driver.place(1)
    first = driver.read(0)
    driver.place(2)
    assert first.target_position != driver.read(0).target_position
    assert first.outcome == "running"
    assert not driver.lockstep


def test_without_reset_the_objects_stay(emulator: str) -> None:
    """`reset: none` leaves the hole where it is and `outcome: none` never ends an episode."""
    driver = TaskDriver(emulator, "none", "none")
    before = driver.read(0)
    driver.place(99)
    after = driver.read(0)
    distance = max(abs(a - b) for a, b in zip(before.target_position, after.target_position, strict=True))
    assert distance < 10 * before.noise_m
    assert after.outcome == "running"


def test_a_task_without_a_sensor(emulator: str) -> None:
    """Where nobody goes by the target there need be no sensor: signals are empty, but the outcome's driver is heard."""
    blind = TaskDriver("none", "none", "none", needed=False)
    blind.place(1)
    blind.gate(5)
    assert blind.read(7) == nothing_seen(7)
    judged = TaskDriver("none", emulator, emulator, needed=False)
    judged.place(1)
    assert judged.read(0) == nothing_seen(0)
    assert not judged.lockstep


@pytest.mark.parametrize(
    ("addresses", "error"),
    [
        (("none", "none", "none"), SettingsError),
        (("camera://1", "none", "none"), SettingsError),
        (("emulator://127.0.5.99", "none", "none"), AddressError),
    ],
)
def test_wrong_addresses_are_refused(addresses: tuple[str, str, str], error: type[Exception]) -> None:
    """No sensor, an unknown kind of driver and an emulator that is not there each get their own error."""
    with pytest.raises(error):
        TaskDriver(*addresses)
