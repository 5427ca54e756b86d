"""Keys as a device: a press is a nudge, a held key moves on until its repeats stop."""

from __future__ import annotations

import numpy as np
import pytest

from poco.hw.devices.keyboard import MOTIONS, REPEAT_S, SPEEDS, Keyboard

LOOK_NS = 100_000_000


class Typing:
    """A clock, and the keys that come until it is asked."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.keys: list[str] = []
        self.keyboard = Keyboard(self.take, lambda: self.now_ns)

    def take(self) -> list[str]:
        keys, self.keys = self.keys, []
        return keys

    def look(self, *keys: str) -> list[float]:
        """The deflection at the next look, `keys` having been pressed before it."""
        self.now_ns += LOOK_NS
        self.keys += keys
        return [float(value) for value in self.keyboard.read().deflection]


@pytest.mark.parametrize("key", MOTIONS)
def test_a_press_moves_once(key: str) -> None:
    """Every key of motion deflects its own axis for one look and no longer."""
    typing = Typing()
    axis, direction = MOTIONS[key]
    expected = np.zeros(4)
    expected[axis] = direction * SPEEDS["2"]
    np.testing.assert_array_equal(typing.look(key), expected)
    assert typing.look() == [0.0] * 4


def test_a_held_key_moves_on_between_its_repeats() -> None:
    """A key that has repeated goes on over a look without a repeat, and stops once repeats stay away for too long."""
    typing = Typing()
    assert [typing.look("w")[0], typing.look("w")[0], typing.look()[0]] == [SPEEDS["2"]] * 3
    looks = int(REPEAT_S * 1e9 / LOOK_NS) + 1
    assert [typing.look()[0] for _ in range(looks)][-1] == 0.0


def test_keys_add_up_and_speeds_hold() -> None:
    """Two axes move together, opposite keys cancel, a speed lasts, and what means nothing does nothing."""
    typing = Typing()
    assert typing.look("3", "w", "d", "5", "é") == [1.0, -1.0, 0.0, 0.0]
    assert typing.look() == [0.0] * 4
    assert typing.look("1") == [0.0] * 4
    typing.now_ns += 10 * LOOK_NS
    assert typing.look("r", "f", "z") == [0.0, 0.0, 0.0, SPEEDS["1"]]
