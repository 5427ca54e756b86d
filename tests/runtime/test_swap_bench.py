"""The bench of swaps counts what happened: generations are held to names and actions, a way ends where it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from poco.artifact import Artifact
from poco.episodes import Episode
from poco.errors import PocoError
from poco.records import EpisodeEnd, Step, StepKey
from poco.runtime.benchmarks.offers import OfferMaker
from poco.runtime.benchmarks.swap_checks import Chooser, check_actions, check_names, ways_us
from poco.runtime.benchmarks.swap_pieces import SwapBlock, SwapPiece, join, read_pieces
from poco.runtime.benchmarks.swaps import outcome_of
from poco.runtime.run_folder import ChunkRecord
from synthetic_run import episode_chunks


def generations(*numbers: int) -> list[ChunkRecord]:
    """Chunks in order that name these generations."""
    chunks = episode_chunks(0, 1000)[: len(numbers)]
    return [msgspec.structs.replace(chunk, generation=number) for chunk, number in zip(chunks, numbers, strict=True)]


def test_the_way_ends_with_the_first_chunk_of_a_generation() -> None:
    """Observed and published at known times, offered before; passed over it has no way; the first of an episode had to wait."""
    chunks = generations(1, 2, 2, 4)
    chunks[3] = msgspec.structs.replace(chunks[3], episode=1)
    received_ns = {chunk.observation_tick: 1_000_000 * chunk.observation_tick for chunk in chunks}
    moving_us, between_us = ways_us({2: 1, 3: 1, 4: 1}, chunks, received_ns)
    expected = [received_ns[chunk.observation_tick] + chunk.total_ns - 1 for chunk in (chunks[1], chunks[3])]
    assert np.allclose([moving_us, between_us], np.array(expected)[:, None] / 1e3)


def test_pieces_on_disk_make_one_statistic(tmp_path: Path) -> None:
    """Two runs come back as they were saved, and joined their blocks, ways and counts are those of both; sizes do not mix."""
    random = np.random.default_rng(0)
    for misses in (0, 3):
        slow = np.where(np.arange(50) < misses, 2000.0, 40.0)
        blocks = [SwapBlock(True, slow, random.random(4)), SwapBlock(False, np.full(30, 50.0), random.random(2))]
        SwapPiece(1000, blocks, random.random(5), random.random(misses), 100, 20, 19, 18).save(tmp_path)
    first, second = read_pieces(tmp_path)
    assert [block.swapping for block in first.blocks] == [True, False]
    joined = join([first, second])
    assert joined.swaps == 13
    assert [block.misses for block in joined.of(True)] == [0, 3]
    assert [len(block.inference_us) for block in joined.blocks] == [4, 2, 4, 2]
    assert (joined.steps, joined.chunks, joined.checked, joined.told_apart) == (200, 40, 38, 36)
    told = outcome_of(joined, 2, [], 30.0, 0, 0)
    assert told.more["swaps"] == 13.0
    assert "3 of 100 ticks with swaps, 0 of 60 without" in told.notes[1]
    with pytest.raises(PocoError, match="different sizes"):
        join([first, replace(second, parameters=7)])


def test_generations_that_go_back_are_a_defect() -> None:
    """A chunk of an older generation after one of a newer ends the bench."""
    with pytest.raises(PocoError, match="older generation"):
        check_names([], generations(1, 2, 1))


def acted(artifact: Artifact, chooser: Chooser, chunks: list[ChunkRecord], drove: dict[int, int]) -> Episode:
    """An episode whose chunks were chosen by the generations `drove` (by id); the first one's first period was not observed."""
    specification, random = artifact.specification, np.random.default_rng(0)
    steps: list[Step] = []
    for place, chunk in enumerate(chunks):
        observation = random.uniform(-0.5, 0.5, specification.observation_size).astype(np.float32)
        actions = chooser.choose(drove.get(chunk.chunk_id, chunk.generation), 0, place, observation)
        for number, action in enumerate([np.zeros_like(actions[0]), *actions[:2]]):
            step = Step(
                key=StepKey("arm", 1, 0, 3 * place + number),
                tick=chunk.observation_tick + number,
                generation=chunk.generation,
                chunk_id=chunk.chunk_id if number else 0,
                observation=observation.tolist(),
                action_policy=action.tolist(),
                action_executed=[],
                reward=0.0,
            )
            steps.append(step)
    del steps[1]
    end = EpisodeEnd(
        robot="arm",
        boot_epoch=1,
        episode=0,
        tick=1,
        final_observation=[],
        outcome="success",
        terminated=True,
        truncated=False,
    )
    return Episode(specification, tuple(steps), end)


def test_actions_of_another_generation_are_found_out(artifact: Artifact, tmp_path: Path) -> None:
    """Chunks that their own generation chose pass; one that the generation before chose, under the newer name, does not."""
    maker, first = OfferMaker(artifact, tmp_path), artifact.manifest.generation
    maker._make()
    chooser = Chooser(artifact, maker.weights, 0)
    chunks = generations(first, first + 1, first + 2)
    sound = acted(artifact, chooser, chunks, {})
    assert check_actions(chooser, [sound], chunks) == (3, 2)
    assert check_names([sound], chunks) == 8
    late = acted(artifact, chooser, chunks, {chunks[2].chunk_id: first + 1})
    with pytest.raises(PocoError, match="not what generation"):
        check_actions(chooser, [late], chunks)
    with pytest.raises(PocoError, match="only 0 of 3"):
        check_actions(chooser, [Episode(sound.specification, (), sound.end)], chunks)
