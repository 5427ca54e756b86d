"""A source whose episodes are read by several processes at the same time and still come in their order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from poco.episodes import Episode
from poco.learner.datasets.trajectory import Source, Trajectory

Pieces = Sequence[Trajectory | Episode]


@contextmanager
def read_beside(source: Source, make: Callable[[], Source], workers: int, first: int) -> Iterator[Source]:
    """Yield `source` such that episodes `first` and following are read, each once and in order, by `workers` processes.

    Each process makes the same source again by `make`, which is sent to it. What waits to be asked for is kept in memory.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _begin, (make,)) as pool:
        coming = pool.imap(_read, range(first, source.count))
        yield replace(source, read=lambda number: next(coming))


_sources: list[Source] = []


def _begin(make: Callable[[], Source]) -> None:
    _sources[:] = [make()]


def _read(number: int) -> Pieces:
    return _sources[0].read(number)
