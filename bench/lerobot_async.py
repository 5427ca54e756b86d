"""LeRobot's asynchronous inference of the checkpoint that an artifact was exported from; `poco-bench vla --library` starts it.

Its own PolicyServer, in a process of its own, and its own RobotClient, over gRPC on this computer. Runs in an environment with
LeRobot (`make test-vla` makes one) and grpcio, with tests/ on the path:

    PYTHONPATH=tests poco-bench vla --policy ARTIFACT --task TEXT --library ".venv-vla/bin/python bench/lerobot_async.py CHECKPOINT"

Prints a first line when the artifact's golden chunks are reproduced, then answers every line on standard input with the time from
an observation in the client's hand, with new frames, to the actions in its queue. The server's `inference_latency`, which by
default makes a faster policy wait for 1/30 s, is 0 here. `--tiny` is for checkpoints of tests/vla/tiny.py.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures
from contextlib import nullcontext
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import torch
from vla_eager import Eager

from poco.artifact import Artifact, read_artifact
from poco.errors import ArtifactError, guard
from poco.runtime.benchmarks.vla_library import Ready, Spent
from poco.specification import unscale
from vla import stand_ins
from vla.tiny import Made, tiny_sizes

HOST = "127.0.0.1"
START = Path.cwd()
POLL_S = 20e-6
PATIENCE_S = 60.0
WARM_UP_CALLS = 3


def serve(checkpoint: Path, port: int, tiny: bool) -> None:
    """Be the policy server at `port`; print a line for each chunk with the time (ns) of the model and the peak memory (bytes)."""
    import grpc
    from lerobot.async_inference.configs import PolicyServerConfig
    from lerobot.async_inference.policy_server import PolicyServer
    from lerobot.transport import services_pb2_grpc

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    class Timed(PolicyServer):  # type: ignore[misc]
        def _get_action_chunk(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
            began_ns = time.monotonic_ns()
            chunk: torch.Tensor = super()._get_action_chunk(observation)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps([time.monotonic_ns() - began_ns, peak]), file=answers)
            return chunk

    made = Made(checkpoint, checkpoint.parent / "vlm", checkpoint.parent / "tokenizer")
    with tiny_sizes(made) if tiny else nullcontext():
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        policies = Timed(PolicyServerConfig(host=HOST, port=port, inference_latency=0.0))
        services_pb2_grpc.add_AsyncInferenceServicer_to_server(policies, server)
        server.add_insecure_port(f"{HOST}:{port}")
        server.start()
        print(json.dumps([0, 0]), file=answers)
        sys.stdin.read()
        server.stop(0)


class Robot:
    """A robot of LeRobot's with the state and the cameras that the policy sees, which is never asked to move."""

    name = "observed"

    def __init__(self, artifact: Artifact, keys: dict[str, str], frame: tuple[int, int]) -> None:
        """`keys` are the policy's image keys by camera; `frame` is (height, width)."""
        size = artifact.specification.observation_size
        self.observation_features = {f"state_{index}": float for index in range(size)} | dict.fromkeys(
            keys, (*frame, 3)
        )
        self.action_features = {f"action_{index}": float for index in range(artifact.specification.action_size)}
        self.connect = self.disconnect = lambda: None


class AsyncLibrary:
    """The client, and the server of `checkpoint` that it has connected to."""

    def __init__(self, artifact: Artifact, checkpoint: Path, frame: tuple[int, int], threads: int, tiny: bool) -> None:
        from lerobot.async_inference import robot_client
        from lerobot.async_inference.configs import RobotClientConfig

        assert artifact.manifest.vla is not None
        self._told, self._frame, self._draw, self._step = artifact.specification, frame, np.random.default_rng(0), 0
        prefix = "observation.images."
        self._cameras = {
            item.key.removeprefix(prefix): item.key for item in artifact.manifest.vla.cameras if item.camera
        }
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        words = [sys.executable, __file__, str(checkpoint), "--serve", str(port), "--threads", str(threads)]
        paths = os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(START, path)) for path in sys.path)}
        self._server = subprocess.Popen(
            words + ["--tiny"] * tiny, env=paths, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._heard()
        robot = Robot(artifact, self._cameras, frame)
        settings = RobotClientConfig(
            policy_type=artifact.manifest.vla.type,
            pretrained_name_or_path=str(checkpoint),
            robot=SimpleNamespace(type="observed"),
            actions_per_chunk=artifact.manifest.vla.chunk_length,
            server_address=f"{HOST}:{port}",
            policy_device="cpu",
        )
        with mock.patch.object(robot_client, "make_robot_from_config", return_value=robot):
            self._client: Any = robot_client.RobotClient(settings)
        if not self._client.start():
            raise ArtifactError(f"LeRobot's server took no policy of {checkpoint}: its log says why")
        self._client.start_barrier = threading.Barrier(1)
        threading.Thread(target=self._client.receive_actions, daemon=True).start()

    def _heard(self) -> list[int]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise ArtifactError(f"LeRobot's server ended with exit code {self._server.wait()}: its log says why")
        heard: list[int] = json.loads(line)
        return heard

    def call(self, task: str) -> Spent:
        """Send one observation with new frames and wait for its actions; raises ArtifactError if none come."""
        from lerobot.async_inference.helpers import TimedObservation

        numbers = unscale(self._told.observation, self._draw.uniform(-1, 1, self._told.observation_size))
        seen: dict[str, Any] = {f"state_{index}": float(number) for index, number in enumerate(numbers)}
        seen |= {name: self._draw.integers(0, 256, (*self._frame, 3), np.uint8) for name in self._cameras}
        self._step += 1
        self._client.action_queue = Queue()
        began_ns = time.monotonic_ns()
        observation = TimedObservation(
            timestamp=time.time(), timestep=self._step, observation=seen | {"task": task}, must_go=True
        )
        self._client.send_observation(observation)
        while self._client.action_queue.empty():
            time.sleep(POLL_S)
            if time.monotonic_ns() - began_ns > PATIENCE_S * 1e9:
                raise ArtifactError(f"LeRobot's server gave no actions in {PATIENCE_S:g} s: its log says why")
        call_ns = time.monotonic_ns() - began_ns
        model_ns, peak = self._heard()
        return Spent(call_ns=call_ns, sample_actions_ns=model_ns, peak_memory_bytes=peak)

    def end(self) -> None:
        """Let client and server end; that the client's thread loses its connection then is no error."""
        logging.disable(logging.ERROR)
        self._client.stop()
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


def main() -> None:
    """Answer `poco-bench vla`; whatever libraries print goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--tiny", action="store_true", help="the checkpoint has shrunk sizes, vlm/ and tokenizer/ beside it"
    )
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--task")
    parser.add_argument("--frame", type=int, nargs=2, metavar=("W", "H"))
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--serve", type=int, metavar="PORT", help="be the server")
    flags = parser.parse_args()
    checkpoint = flags.checkpoint.resolve()
    torch.set_num_threads(flags.threads)
    stand_ins.install()
    logging.disable(logging.INFO)
    if flags.serve:
        serve(checkpoint, flags.serve, flags.tiny)
        return
    artifact = read_artifact(flags.artifact)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    from lerobot import __version__

    difference = Eager(artifact, checkpoint, flags.tiny).difference()
    width, height = flags.frame
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the library writes its logs where it is
        library = AsyncLibrary(artifact, checkpoint, (height, width), flags.threads, flags.tiny)
        for _ in range(WARM_UP_CALLS):
            library.call(flags.task)
        versions = {"lerobot": __version__, "torch": str(torch.__version__)}
        ready = Ready(versions=versions, difference=difference, how="its PolicyServer and RobotClient over gRPC")
        answers.write(msgspec.json.encode(ready) + b"\n")
        for _ in sys.stdin:
            answers.write(msgspec.json.encode(library.call(flags.task)) + b"\n")
        library.end()


if __name__ == "__main__":
    guard(main)
