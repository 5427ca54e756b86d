"""A batch of the journal to a learner's socket and its acknowledgement back: with keys (CURVE) and without, in turns."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import zmq

from poco.errors import PocoError
from poco.link.keys import LEARNER, KeyFolder
from poco.link.messages import Acknowledged, Batch, pack
from poco.link.sockets import Network, Server
from poco.runtime.benchmarks.durable import step_bytes
from poco.runtime.benchmarks.outcome import Floats, Measurement, Outcome

ADDRESS = "tcp://127.0.0.1:0"
PATIENCE_MS = 5_000
WARM_UP = 20
ROBOT = "bench"


class Pair:
    """A robot's socket and a learner's, in one thread; zmq's own threads do the work."""

    def __init__(self, keys: tuple[KeyFolder, KeyFolder] | None) -> None:
        self._learner, self._robot = Network(keys and keys[0]), Network(keys and keys[1])
        self._server = Server(self._learner, ADDRESS)
        self._socket = self._robot.connect(self._server.address, LEARNER)
        self._answer = pack(Acknowledged(journal="bench", sequence=1, expected=2))

    def round_trip(self, frames: list[bytes]) -> float:
        """Send `frames`, answer them, return how long it took (us); raises PocoError for a link that is silent."""
        if not self._socket.poll(PATIENCE_MS, zmq.POLLOUT):
            raise PocoError("the link does not connect on loopback: look at the firewall")
        began_ns = time.perf_counter_ns()
        self._socket.send_multipart(frames)
        while not self._socket.poll(0):
            if not self._server.socket.poll(PATIENCE_MS):
                break
            for peer, _, _ in self._server.receive():
                self._server.send(peer, self._answer)
            self._socket.poll(PATIENCE_MS)
        self._socket.recv_multipart(zmq.NOBLOCK)
        return (time.perf_counter_ns() - began_ns) / 1e3

    def close(self) -> None:
        """Close both ends."""
        self._server.close()
        self._learner.close()
        self._robot.close()


def run(repeats: int, batches: int, batch_bytes: int) -> Outcome:
    """Time `batches` round trips of `batch_bytes` a repeat, one with keys and one without in turns."""
    frames = pack(Batch(journal="bench"), np.random.default_rng(0).bytes(batch_bytes))
    samples: dict[str, list[Floats]] = {"curve": [], "plain": []}
    cpu_s = dict.fromkeys(samples, 0.0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        learner, robot = KeyFolder.create(Path(folder) / "a", LEARNER), KeyFolder.create(Path(folder) / "b", ROBOT)
        learner.add(ROBOT, robot.own().public)
        robot.add(LEARNER, learner.own().public)
        pairs = {"curve": Pair((learner, robot)), "plain": Pair(None)}
        for pair in pairs.values():
            ends.callback(pair.close)
            for _ in range(WARM_UP):
                pair.round_trip(frames)
        for _ in range(repeats):
            took = {name: np.empty(batches) for name in pairs}
            for batch in range(batches):
                for name in pairs if batch % 2 else reversed(pairs):
                    began_cpu_s = time.process_time()
                    took[name][batch] = pairs[name].round_trip(frames)
                    cpu_s[name] += time.process_time() - began_cpu_s
            for name in pairs:
                samples[name].append(took[name])
    steps = repeats * batches * batch_bytes / step_bytes()
    notes = [
        f"{name}: {batch_bytes / float(np.median(np.concatenate(arrays))):.0f} MB/s, {cpu_s[name] / steps * 1e6:.2f} us of CPU a "
        f"step of {step_bytes()} bytes, both ends"
        for name, arrays in samples.items()
    ]
    measurements = [Measurement(name, arrays) for name, arrays in samples.items()]
    what = f"A batch of {batch_bytes} bytes to a learner's socket and its acknowledgement back, on loopback"
    return Outcome("link", what, measurements, [("curve", "plain")], notes)
