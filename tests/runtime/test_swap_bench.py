"""The bench of swaps counts what happened: names of generations are checked, the way from offer to chunk is what it says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.errors import PocoError
from poco.runtime.benchmarks.swaps import check_names, ways_us
from poco.runtime.run_folder import ChunkRecord, RunFolder
from synthetic_run import episode_chunks


def generations(*numbers: int) -> list[ChunkRecord]:
    """Chunks in order that name these generations."""
    chunks = episode_chunks(0, 1000)[: len(numbers)]
    return [msgspec.structs.replace(chunk, generation=number) for chunk, number in zip(chunks, numbers, strict=True)]


def test_the_way_ends_with_the_first_chunk_of_a_generation() -> None:
    """Observed and published at known times, offered before; a generation that was passed over has no way."""
    chunks = generations(1, 2, 2, 4)
    received_ns = {chunk.observation_tick: 1_000_000 * chunk.observation_tick for chunk in chunks}
    ways = ways_us({2: 0, 3: 0, 4: 0}, chunks, received_ns)
    expected = [received_ns[chunk.observation_tick] + chunk.total_ns for chunk in (chunks[1], chunks[3])]
    assert np.allclose(ways, np.array(expected) / 1e3)


def test_generations_that_go_back_are_a_defect(tmp_path: Path) -> None:
    """A chunk of an older generation after one of a newer ends the bench."""
    with pytest.raises(PocoError, match="older generation"):
        check_names(RunFolder(tmp_path), generations(1, 2, 1))
