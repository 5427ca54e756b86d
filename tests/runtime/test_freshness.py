"""Which frames may be acted on: every kind of bad camera is noticed within its bound, none is trusted again too early."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from poco.records import FRAME_HEAD
from poco.runtime.freshness import STEADY_FRAMES, Stream
from poco.settings import CameraSettings

MS = 1_000_000
PERIOD_NS = 33 * MS
CAMERA = CameraSettings(
    name="near",
    source="realsense://123",
    width=640,
    height=480,
    rate_hz=30,
    crop=None,
    exposure_us=8000,
    white_balance_k=4500,
    age_max_s=0.1,
    repeats_max=5,
)


def head(number: int, t_ns: int, repeats: int = 0, serial: str = "123") -> np.ndarray[tuple[()], np.dtype[np.void]]:
    """A FRAME_HEAD."""
    made = np.zeros((), FRAME_HEAD)
    made["number"], made["t_ns"], made["repeats"], made["serial"] = number, t_ns, repeats, serial
    return made


def steady(stream: Stream, frames: int = 20, first: int = 1) -> int:
    """Show `stream` so many good frames, one a period; return the time of the last look."""
    for number in range(first, first + frames):
        stream.look(head(number, number * PERIOD_NS), number * PERIOD_NS + 5 * MS)
    return (first + frames - 1) * PERIOD_NS + 5 * MS


def test_a_good_camera_is_trusted_from_the_first_frame() -> None:
    """No trouble at any look, at whatever time between two frames."""
    stream = Stream(CAMERA)
    for number in range(1, 50):
        for after_ns in (0, 10 * MS, 60 * MS):
            assert stream.look(head(number, number * PERIOD_NS), number * PERIOD_NS + after_ns) == ""


@pytest.mark.parametrize(
    ("frame", "after_ms", "words"),
    [
        (None, 0, "has given no frame"),
        (head(1, 0), 101, "older than 0.1 s"),
        (head(1, 0, serial="124"), 5, "is 124, should be 123"),
        (head(1, 0, repeats=5), 5, "the same 5 frames"),
        (head(1, 30 * MS), 5, "a time to come"),
    ],
)
def test_each_kind_of_trouble_has_its_sentence(
    frame: np.ndarray[tuple[()], np.dtype[np.void]] | None, after_ms: int, words: str
) -> None:
    """Missing, stale, another camera, frozen, a clock that jumped."""
    assert words in Stream(CAMERA).look(frame, after_ms * MS)


def test_the_bound_is_exact() -> None:
    """A frame of the very age counts, one nanosecond later it does not; likewise one repetition less."""
    assert Stream(CAMERA).look(head(1, 0), 100 * MS) == ""
    assert Stream(CAMERA).look(head(1, 0), 100 * MS + 1) != ""
    assert Stream(CAMERA).look(head(9, 0, repeats=4), 0) == ""


def test_trust_comes_back_with_steady_frames_only() -> None:
    """After a gap it takes some frames in a row; looking at one of them again and again is not more of them."""
    stream = Stream(CAMERA)
    now_ns = steady(stream) + 200 * MS
    assert stream.look(head(20, 20 * PERIOD_NS), now_ns) != ""
    for number in range(30, 30 + STEADY_FRAMES):
        for _ in range(4):
            before = stream.trouble
            stream.look(head(number, number * PERIOD_NS), number * PERIOD_NS)
        assert before != ""
    steady(stream, 2, first=30 + STEADY_FRAMES)
    assert stream.trouble == ""


def test_a_slow_camera_never_comes_back() -> None:
    """A frame every 200 ms is young for a while each time; the arm does not stutter along with it."""
    stream = Stream(CAMERA)
    now_ns = steady(stream)
    seen = []
    for number in range(21, 60):
        t_ns = now_ns + (number - 20) * 200 * MS
        seen += [stream.look(head(number, t_ns), t_ns + after * MS) for after in (5, 55, 105, 155)]
    assert seen[:2] == ["", ""]
    assert seen[2:].count("") == 0


def test_another_limit_for_another_camera() -> None:
    """Bounds are those of the camera's own settings."""
    patient = Stream(msgspec.structs.replace(CAMERA, age_max_s=1.0, repeats_max=100))
    assert patient.look(head(1, 0, repeats=99), 1000 * MS) == ""
