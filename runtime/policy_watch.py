"""The policy process as the supervisor keeps it: signs of life, stalls, a new start for one that died or went silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from poco.clock import monotonic_ns
from poco.errors import PocoError
from poco.runtime.allowance import allowed_s, bytes_of
from poco.runtime.child import Child
from poco.runtime.run_folder import EpisodeEnded, PolicyRestart, PolicyStall, RunFolder
from poco.runtime.run_options import WITHOUT_ARTIFACT, RunOptions
from poco.runtime.status import Status
from poco.runtime.store import ArtifactStore
from poco.shm import RunMemory

STALL_S = 1.0
"""A silence of the policy process, or of the supervisor itself, that is worth an event."""

START_LIMIT_S = 120.0
"""How long a process may take to start; one with a policy to open gets more by its size (`allowance`)."""

KILL_LIMIT_S = 3.0
MAX_RESTARTS = 3
FIRST_TO_GO = 500
"""When memory runs out the kernel rather ends the largest of the processes that can be started again."""

PAUSE_S = 0.5


def start_limit_s(options: RunOptions) -> float:
    """Return how long (s) the policy process of the run with `options` may take to start: longer the more it has to open."""
    if options.policy in WITHOUT_ARTIFACT:
        return START_LIMIT_S
    folders = [Path(one) for one in (options.policy, *options.against)]
    if options.swaps and (held := ArtifactStore(options.store).pointer("current")) is not None:
        folders = [held]
    return allowed_s(START_LIMIT_S, bytes_of(folders))


class PolicyWatch:
    """The one policy process of a run, whichever start of it; supervisor only.

    `start` starts one with further arguments. It gives a sign of life whenever it looks at the arm, at least four times a
    second; after `silence_s` without one, longer only where it has announced so, it counts as lost, in its start-up after
    `start_limit_s`.
    """

    def __init__(
        self,
        start: Callable[..., Child],
        folder: RunFolder,
        memory: RunMemory,
        status: Status,
        silence_s: float,
        start_limit_s: float,
    ) -> None:
        self._start, self._folder, self._memory, self._status = start, folder, memory, status
        self._silence_s, self._start_limit_s = silence_s, start_limit_s
        self._starts, self._in_vain, self._finished = 0, 0, 0
        self._begin()

    def _begin(self, *arguments: str) -> None:
        self._started_ns = self._since_ns = monotonic_ns()
        self._beat_ns = self._looked_ns = 0
        self._memory.forget_policy()
        self.child = self._start("policy", *arguments)
        self._starts += 1
        self.child.goes_before(FIRST_TO_GO)

    @property
    def done(self) -> bool:
        """Whether it has run all episodes."""
        return self.child.process.poll() == 0

    def go(self) -> None:
        """Let it begin; its silence counts from now on."""
        self._since_ns = monotonic_ns()
        self.child.say("go")

    def look(self) -> str:
        """Record a stall that is over; return in words how the process was lost, "" while it lives."""
        if not self.child.running:
            return self.child.ending()
        now_ns = monotonic_ns()
        beat_ns = min(int(self._memory.control()["policy_ns"]), now_ns)  # ahead of now while a silence is announced
        if now_ns - self._looked_ns > STALL_S * 1e9:  # whoever watches stood still himself
            self._since_ns, self._beat_ns = now_ns, 0
        self._looked_ns = now_ns
        alive = beat_ns >= self._started_ns
        if alive and self._beat_ns and beat_ns - self._beat_ns > STALL_S * 1e9:
            self._tell_stall((beat_ns - self._beat_ns) / 1e9)
        self._beat_ns = beat_ns if alive else 0
        silent_s = (now_ns - max(beat_ns, self._since_ns)) / 1e9
        if silent_s <= (self._silence_s if alive else self._start_limit_s):
            return ""
        self.child.process.kill()
        self.child.wait(KILL_LIMIT_S)
        return f"it gave no sign of life for {silent_s:.1f} s"

    def restart(self, reason: str, pause: Callable[[float], None]) -> None:
        """Start it again after a pause (s), longer each time in vain; it repeats the episode it was lost in.

        Raises its error where it said itself why it cannot go on, and after MAX_RESTARTS without an episode between them.
        """
        finished = sum(isinstance(event, EpisodeEnded) for event in self._folder.events())
        self._in_vain = self._in_vain + 1 if finished == self._finished else 1
        self._finished = finished
        code = self.child.process.poll()
        if code is not None and code > PocoError.exit_code:
            raise self.child.error()
        if self._in_vain > MAX_RESTARTS:
            raise PocoError(f"{MAX_RESTARTS} new starts of the policy process did not help: {reason}")
        self._status.note(f"policy process lost ({reason}), start {self._starts + 1}")
        self._folder.append_event(PolicyRestart(tick=self._tick(), start=self._starts + 1, reason=reason))
        pause(PAUSE_S * 2.0**self._in_vain)
        self._begin("--first-episode", str(finished))
        self.child.say("go")

    def _tell_stall(self, silent_s: float) -> None:
        self._status.note(f"the policy process stood still for {silent_s:.1f} s")
        self._folder.append_event(PolicyStall(tick=self._tick(), silent_s=round(silent_s, 3)))

    def _tick(self) -> int:
        return int(self._memory.control()["tick"])
