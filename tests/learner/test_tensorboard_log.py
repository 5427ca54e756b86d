"""What TensorBoard reads of a training run: every figure of every episode, over control steps."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from poco.learner.metrics import EpisodeFigures
from poco.learner.tensorboard_log import tensorboard_log


def figures(episode: int, success: bool) -> EpisodeFigures:
    return EpisodeFigures(
        episode=episode,
        steps=10 * episode,
        updates=7 * episode,
        phase="learning",
        success=success,
        recent_success=0.5,
        verdict="go_on",
        diagnostics={"clipped_fraction": episode / 8, "effective_sample_size": 2.0},
        evaluation={"plain": 0.25, "critic_trust": 0.125} if episode == 2 else {},
    )


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, as TensorBoard shows them."""
    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_every_figure_is_there_and_a_resumed_run_hides_what_it_repeats(tmp_path: Path) -> None:
    """Diagnostics, evaluations and outcomes; of a run that goes on behind step 20 the third episode is there once, the new one."""
    with tensorboard_log(tmp_path, 0) as log:
        for episode in (1, 2, 3):
            log(figures(episode, success=False))
    with tensorboard_log(tmp_path, 20) as log:
        log(figures(3, success=True))
    found = scalars(tmp_path)
    assert found["episode/success"] == [(10, 0.0), (20, 0.0), (30, 1.0)]
    assert found["episode/updates"] == [(10, 7.0), (20, 14.0), (30, 21.0)]
    assert found["learning/clipped_fraction"] == [(10, 0.125), (20, 0.25), (30, 0.375)]
    assert found["evaluation/critic_trust"] == [(20, 0.125)]
    assert set(found) == {
        "episode/success",
        "episode/recent_success",
        "episode/number",
        "episode/updates",
        "learning/clipped_fraction",
        "learning/effective_sample_size",
        "evaluation/plain",
        "evaluation/critic_trust",
    }
