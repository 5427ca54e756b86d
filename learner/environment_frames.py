"""What goes over the socket between the learner and an environment in a process of its own: typed messages and one raw array.

A frame is two lengths (u32, little-endian), a MessagePack message and the bytes of an array that the message describes. This
module and `environment_worker` need numpy, msgspec, pyyaml and gymnasium, so that they run in the Python of any suite.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from poco.errors import PocoError
from poco.records import EpisodeEnd, Step
from poco.specification import Specification
from poco.views import Shown

LENGTHS = struct.Struct("<II")
BYTES_MAX = 1 << 28

Array = npt.NDArray[Any]


class Layout(msgspec.Struct, frozen=True):
    """Type and shape of the array behind a message."""

    dtype: Literal["float32", "uint8"]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Make(msgspec.Struct, frozen=True, tag="make"):
    """Make the gymnasium environment `task` with `parameters`; the first frame, answered by Made or Refused."""

    task: str
    parameters: dict[str, bool | int | float | str]


class Reset(msgspec.Struct, frozen=True, tag="reset"):
    """Begin the episode of `seed`; answered by Observed."""

    seed: int


class Act(msgspec.Struct, frozen=True, tag="act"):
    """Execute the chunk [T, A] behind this message; answered by Observed."""

    layout: Layout


class Made(msgspec.Struct, frozen=True, tag="made"):
    """The environment is there, records under `specification` and gives the images `shown`, if any."""

    specification: Specification
    shown: Shown | None = None


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The environment cannot be made; why, in one sentence."""

    sentence: str


class Observed(msgspec.Struct, frozen=True, tag="observed"):
    """The observation behind this message and what happened until then; `end` comes with the last one of an episode.

    What `cameras` saw follows in two frames: images, then where the target was.
    """

    layout: Layout
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    steps: list[Step] = []
    end: EpisodeEnd | None = None
    cameras: tuple[str, ...] = ()


class Attached(msgspec.Struct, frozen=True, tag="attached"):
    """The array behind this message belongs to the message before it."""

    layout: Layout


Request = Make | Reset | Act
Reply = Made | Refused | Observed | Attached


class FrameError(PocoError):
    """The other side has gone, is late or sent what is no frame."""


def layout_of(array: Array) -> Layout:
    """Return the layout of `array`, float32 or uint8."""
    return msgspec.convert({"dtype": str(array.dtype), "shape": array.shape}, Layout)


def send(connection: socket.socket, message: Request | Reply, array: Array | None = None) -> None:
    """Send one frame; raises FrameError if the other side has gone or does not read."""
    body = msgspec.msgpack.encode(message)
    raw = b"" if array is None else np.ascontiguousarray(array).tobytes()
    try:
        connection.sendall(LENGTHS.pack(len(body), len(raw)) + body + raw)
    except OSError as error:
        raise FrameError(f"nothing could be sent ({error})") from error


def receive(connection: socket.socket, kind: Any, within_s: float | None) -> tuple[Any, Array | None]:
    """Return the next frame as a message of `kind`, a type or union, with its array.

    Raises FrameError if none comes whole `within_s` (s); None waits for ever.
    """
    deadline_s = None if within_s is None else time.monotonic() + within_s
    body_size, raw_size = LENGTHS.unpack(_exactly(connection, LENGTHS.size, deadline_s))
    if max(body_size, raw_size) > BYTES_MAX:
        raise FrameError(f"a frame of {body_size} + {raw_size} bytes came, the limit is {BYTES_MAX}")
    body, raw = _exactly(connection, body_size, deadline_s), _exactly(connection, raw_size, deadline_s)
    try:
        message = msgspec.msgpack.decode(body, type=kind)
    except (msgspec.MsgspecError, PocoError) as error:
        raise FrameError(f"what came is no frame of this poco ({error})") from error
    layout: Layout | None = getattr(message, "layout", None)
    if (0 if layout is None else layout.size) != raw_size:
        raise FrameError(f"an array of {raw_size} bytes came for the layout {layout}")
    return message, None if layout is None else np.frombuffer(raw, layout.dtype).reshape(layout.shape)


def _exactly(connection: socket.socket, size: int, deadline_s: float | None) -> bytearray:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        left_s = None if deadline_s is None else deadline_s - time.monotonic()
        if left_s is not None and left_s <= 0.0:
            raise FrameError("no answer came in time")
        connection.settimeout(left_s)
        try:
            count = connection.recv_into(view[filled:])
        except TimeoutError:
            continue
        except OSError as error:
            raise FrameError(f"the connection broke ({error})") from error
        if count == 0:
            raise FrameError("it has gone")
        filled += count
    return data
