"""Whether a graph is faster with its weights compiled in: measured once for graph, backend and computer, and remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from poco.artifact import sha256
from poco.errors import ArtifactError
from poco.owned import check_owner, write_owned
from poco.runtime.swap import Weights
from poco.statistics import wilson_interval

PAIRS = 100
MARGIN = 0.05
"""By so much of its time an inference has to be shorter with compiled weights to be worth a compilation."""

Floats = npt.NDArray[np.float64]


def interleaved(calls: Sequence[Callable[[], object]], rounds: int, clock_ns: Callable[[], int]) -> Floats:
    """Return what `rounds` of each of `calls` took (us) [calls, rounds], in turns, each round beginning with the next one."""
    spent_ns, numbered = np.zeros((len(calls), rounds)), list(enumerate(calls))
    for turn in range(rounds):
        first = turn % len(calls)
        for row, call in numbered[first:] + numbered[:first]:
            before_ns = clock_ns()
            call()
            spent_ns[row, turn] = clock_ns() - before_ns
    return spent_ns * 1e-3


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An inference took `inputs_us` and `compiled_us` (us, p50); in `faster` of `pairs` the compiled one was faster by MARGIN."""

    inputs_us: float
    compiled_us: float
    faster: int
    pairs: int

    @property
    def chosen(self) -> Weights:
        """Compiled in where more than half of all pairs would be faster by MARGIN, with 97.5 % confidence, else inputs."""
        return "compiled" if wilson_interval(self.faster, self.pairs)[0] > 0.5 else "inputs"

    @property
    def sentence(self) -> str:
        """The finding in words."""
        times = f"{self.compiled_us / 1e3:.3f} ms compiled in, {self.inputs_us / 1e3:.3f} ms as inputs"
        margin = f"{self.faster} of {self.pairs} pairs faster by {MARGIN:.0%}"
        return f"weights take {times} ({margin}): {self.chosen} serve on this computer"


def compare(
    inputs: Callable[[], object], compiled: Callable[[], object], clock_ns: Callable[[], int], pairs: int = PAIRS
) -> Comparison:
    """Return how long the calls of both take by `clock_ns` in `pairs` turns; low-priority process."""
    inputs_us, compiled_us = interleaved([inputs, compiled], pairs, clock_ns)
    return Comparison(
        inputs_us=round(float(np.median(inputs_us)), 1),
        compiled_us=round(float(np.median(compiled_us)), 1),
        faster=int(np.count_nonzero(compiled_us <= (1.0 - MARGIN) * inputs_us)),
        pairs=pairs,
    )


class Remembered:
    """What was found on this computer, one file of `folder` for each graph and target, for its owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, graph_hash: str, target: Mapping[str, str]) -> Comparison | None:
        """Return what was found for the graph under `target`; None where it was never measured. Raises ArtifactError."""
        file = self._file(graph_hash, target)
        if not file.exists():
            return None
        check_owner(file)
        try:
            return msgspec.json.decode(file.read_bytes(), type=Comparison)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{file} is not readable ({error}): delete it, it is measured again") from error

    def keep(self, graph_hash: str, target: Mapping[str, str], found: Comparison) -> None:
        """Remember what was found."""
        write_owned(self._file(graph_hash, target), msgspec.json.encode(found))

    def _file(self, graph_hash: str, target: Mapping[str, str]) -> Path:
        key = sha256(msgspec.json.encode((graph_hash, dict(target)), order="sorted"))
        return self._folder / f"measured-{key[:32]}.json"
