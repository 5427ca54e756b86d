"""Pictures of recorded data in the size that learning takes: videos by time, single pictures, arrays; decoded and scaled by PyAV.

Whatever their format, they become squares: what is wider than high is squeezed, nothing is cut off.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poco.errors import ArtifactError, UsageError
from poco.views import Views

Pictures = npt.NDArray[np.uint8]

TOLERANCE = 0.1
"""A frame of a video counts as that of a moment if it lies within this share of a frame's time of it."""


def check_cameras(what: str, cameras: Sequence[str], side: int) -> None:
    """Raise UsageError if `what` has no cameras, ArtifactError if no encoder takes so many or images of `side` pixels."""
    from poco.learner.image_policy import EncoderArchitecture

    if not cameras:
        raise UsageError(f"{what} has no cameras: leave --image-side out")
    EncoderArchitecture(cameras=tuple(cameras), side=side, features=1)


def views_of(cameras: Sequence[str], seen: Sequence[Pictures]) -> Views:
    """Return `seen`, of each of `cameras` pictures [n + 1, 3, side, side]; recorded data do not say where the target was."""
    images = np.stack(seen, axis=1)
    return Views(tuple(cameras), images, np.zeros((len(images), 0), np.float32))


def video_pictures(path: Path, first_s: float, count: int, rate_hz: float, side: int) -> Pictures:
    """Return `count` frames [count, 3, side, side] of the video at `path` from `first_s` on, one each 1 / rate_hz.

    Raises ArtifactError for a video that is missing, damaged or without a frame at one of these moments.
    """
    av = _av()
    found: list[Pictures] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            container.seek(int(first_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                late = (frame.time - first_s) * rate_hz - len(found)
                if late < -TOLERANCE:
                    continue
                if late > TOLERANCE:
                    break
                found.append(_square(frame, side))
                if len(found) == count:
                    return np.stack(found)
    except (av.FFmpegError, IndexError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not a whole video ({error}): copy or download it again") from error
    raise ArtifactError(
        f"{path} has no frame at {first_s + len(found) / rate_hz:.4f} s, {len(found)} of {count} frames after {first_s:.4f} s "
        f"at {rate_hz:g} Hz are there: write the data set again"
    )


def single_pictures(what: str, files: Sequence[bytes], side: int) -> Pictures:
    """Return the pictures in `files` (PNG, JPEG) as [n, 3, side, side]; raises ArtifactError naming `what` if one is none."""
    av = _av()

    def decoded(content: bytes) -> Pictures:
        with av.open(io.BytesIO(content)) as container:
            return _square(next(container.decode(video=0)), side)

    try:
        return np.stack([decoded(content) for content in files])
    except (av.FFmpegError, StopIteration, IndexError, TypeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{what} holds no whole pictures ({error}): write the data set again") from error


def png_of(picture: Pictures) -> bytes:
    """Return `picture` [3, rows, columns] as a PNG, which loses nothing."""
    av = _av()
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture.transpose(1, 2, 0)), format="rgb24")
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = frame.width, frame.height, "rgb24", Fraction(1)
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))


def array_pictures(pictures: Pictures, side: int) -> Pictures:
    """Return `pictures` [n, rows, columns, 3] (u8) as [n, 3, side, side]."""
    av = _av()
    frames: Iterator[Any] = (
        av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24") for picture in pictures
    )
    return np.stack([_square(frame, side) for frame in frames])


def _square(frame: Any, side: int) -> Pictures:
    scaled = frame.reformat(width=side, height=side, format="rgb24", interpolation="AREA")
    picture: Pictures = scaled.to_ndarray().transpose(2, 0, 1)
    return picture


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UsageError(f'pictures need the package av ({error}): pip install "poco-robot[datasets]"') from error
    return av
