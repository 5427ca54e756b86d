"""Bare round trips of the bytes of an observation and a chunk to another process and back: shared memory and ZeroMQ."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from poco.errors import PocoError

RoundTrip = Callable[[], None]
FORK = multiprocessing.get_context("fork")


@contextmanager
def shared_memory(observation: bytes, chunk: bytes) -> Iterator[RoundTrip]:
    """Yield a call that hands `observation` to another process by shared memory and takes `chunk` back; woken by eventfd."""
    block = np.frombuffer(mmap.mmap(-1, len(observation) + len(chunk)), np.uint8)
    there, back = block[: len(observation)], block[len(observation) :]
    sent, answer = np.frombuffer(observation, np.uint8), np.frombuffer(chunk, np.uint8)
    asked, answered = os.eventfd(0), os.eventfd(0)

    def peer() -> None:
        while True:
            os.eventfd_read(asked)
            there.copy()
            back[:] = answer
            os.eventfd_write(answered, 1)

    def round_trip() -> None:
        there[:] = sent
        os.eventfd_write(asked, 1)
        os.eventfd_read(answered)
        back.copy()

    with _running(peer):
        yield round_trip
    os.close(asked)
    os.close(answered)


@contextmanager
def zeromq(observation: bytes, chunk: bytes) -> Iterator[RoundTrip]:
    """Yield a call that sends `observation` to another process by ZeroMQ (REQ, REP, ipc) and receives `chunk` back."""
    try:
        import zmq
    except ImportError as error:
        raise PocoError("pyzmq is not installed, it is a competitor: pip install 'poco-robot[robot]'") from error
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{Path(folder) / 'echo'}"

        def peer() -> None:
            with zmq.Context() as context, context.socket(zmq.REP) as socket:
                socket.bind(address)
                while True:
                    socket.recv()
                    socket.send(chunk)

        with _running(peer), zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.connect(address)

            def round_trip() -> None:
                socket.send(observation)
                socket.recv()

            yield round_trip


@contextmanager
def _running(peer: Callable[[], None]) -> Iterator[None]:
    process = FORK.Process(target=peer, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
