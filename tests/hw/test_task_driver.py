"""The task signals chosen in the settings reach the right driver."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from poco.errors import AddressError, ArmError, SettingsError
from poco.hw.task_driver import TaskDriver, nothing_seen

HOST, SENSOR_HOST = "127.0.5.51", "127.0.5.52"
LATEST_TICK = 10**12
PAGE = Path(__file__).parents[2] / "docs/task.md"


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


@pytest.fixture
def sensor() -> Iterator[str]:
    """The program that docs/task.md shows, as it stands there, at an address of its own."""
    (program,) = re.findall(r"```python\n(.+?)```", PAGE.read_text(), re.DOTALL)
    process = subprocess.Popen([sys.executable, "-c", program.replace('"127.0.0.1"', f'"{SENSOR_HOST}"')])
    yield f"emulator://{SENSOR_HOST}:1341"
    process.kill()
    process.wait()


def connected(address: str) -> TaskDriver:
    """A driver of the sensor at `address` alone, as soon as it listens."""
    while True:
        try:
            return TaskDriver(address, "none", "none")
        except AddressError:
            time.sleep(0.05)


def test_a_sensor_of_the_users_own(sensor: str) -> None:
    """It need not know robot time: what it says is of now; what it refuses is told in its own words."""
    driver = connected(sensor)
    assert not driver.lockstep
    signal = driver.read(LATEST_TICK)
    assert (signal.target_position, signal.target_yaw, signal.outcome) == ((0.5, 0.02, 0.03), 0.0, "running")
    placing = TaskDriver(sensor, "none", sensor)
    with pytest.raises(ArmError, match="refused Place: Place is not for this sensor"):
        placing.place(1)


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
