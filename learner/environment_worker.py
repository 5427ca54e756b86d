"""One environment in a process of its own, started by `environment_process`; it ends with the learner or its socket.

`PYTHON -m poco.learner.environment_worker FD`, in any Python 3.11 or newer with numpy, msgspec, pyyaml, gymnasium and the suite.
Ctrl-C and SIGTERM are the learner's business. What the suite prints goes to the log, never into a frame.
"""

from __future__ import annotations

import signal
import socket
import sys
from typing import Any

import gymnasium
import numpy as np

from poco.learner import environment_frames as frames
from poco.learner.environment_frames import Act, Attached, FrameError, Made, Make, Observed, Refused, Request, Reset
from poco.parent import end_with_parent


def serve(connection: socket.socket) -> None:
    """Make the environment the first frame asks for and play what the following ones say, until the learner has gone."""
    make, _ = frames.receive(connection, Make, None)
    try:
        environment = gymnasium.make(make.task, disable_env_checker=True, **make.parameters)
    except Exception as error:  # whatever a suite raises, the learner must hear of it
        frames.send(connection, Refused(" ".join(f"{type(error).__name__}: {error}".split())))
        return
    specification = environment.unwrapped.specification  # type: ignore[attr-defined]
    frames.send(connection, Made(specification, getattr(environment.unwrapped, "shown", None)))
    while True:
        try:
            request, chunk = frames.receive(connection, Request, None)
        except FrameError:
            return
        _answer(connection, environment, request, chunk)


def _answer(connection: socket.socket, environment: Any, request: Request, chunk: Any) -> None:
    if isinstance(request, Reset):
        observation, info = environment.reset(seed=request.seed)
        reward, terminated, truncated, steps = 0.0, False, False, []
    elif isinstance(request, Act):
        observation, reward, terminated, truncated, info = environment.step(chunk)
        steps = info["steps"]
    else:
        return
    observation, views = np.asarray(observation), info.get("views")
    observed = Observed(
        layout=frames.layout_of(observation),
        reward=float(reward),
        terminated=bool(terminated),
        truncated=bool(truncated),
        steps=list(steps),
        end=info.get("end"),
        cameras=() if views is None else views.cameras,
    )
    frames.send(connection, observed, observation)
    if views is not None:
        for array in (views.images, views.target):
            frames.send(connection, Attached(frames.layout_of(array)), array)


def main() -> None:
    """Run the worker; a suite that hangs does not keep it alive when the learner has been killed."""
    end_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
