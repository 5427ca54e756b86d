"""The rules of a vision-language-action policy hold what they say, and refuse what contradicts itself."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from poco.artifact import Artifact, Manifest, named_files, parse_manifest
from poco.errors import ArtifactError
from poco.refusal import Refused
from poco.vla import Normalisation, Prompt, Schedule, VisionPositions, Vla
from poco.vla_numbers import actions, normalise, padded, prompt_text, step_size, times, unnormalise

MODES = {
    "mean_std": {"mean": (1.0, -2.0), "std": (0.5, 4.0)},
    "min_max": {"min": (0.0, -3.0), "max": (2.0, 5.0)},
    "quantiles": {"q01": (0.0, -3.0), "q99": (2.0, 5.0)},
    "quantile10": {"q10": (0.0, -3.0), "q90": (2.0, 5.0)},
    "identity": {},
}


def rule(mode: str) -> Normalisation:
    return msgspec.convert({"mode": mode, "size": 2, "statistics": MODES[mode]}, Normalisation)


def some_vla(**changes: object) -> Vla:
    prompt = Prompt(template="task", length=8, pad_id=0, tokenizer="tokenizer.json", tokenizer_sha256="0" * 64)
    vla = Vla(
        type="smolvla",
        frozen_sha256="0" * 64,
        prompt=prompt,
        cameras=(),
        state=rule("mean_std"),
        action=rule("min_max"),
        width=8,
        chunk_length=4,
        first_action=1,
        schedule=Schedule(steps=4, start=1.0, end=0.0),
        versions={},
        vision_positions=VisionPositions(asked="auto", found="raster"),
        precision="fp32",
        golden_tasks=(),
    )
    return msgspec.structs.replace(vla, **changes)


@pytest.mark.parametrize("mode", MODES)
def test_normalisation_and_back(mode: str) -> None:
    """What is normalised and brought back is what it was; the ends of an interval are -1 and 1, a mean is 0."""
    values = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_allclose(unnormalise(rule(mode), normalise(rule(mode), values)), values, rtol=1e-5, atol=1e-5)
    statistics = [np.array(values, np.float32) for values in MODES[mode].values()]
    if mode == "mean_std":
        np.testing.assert_array_equal(normalise(rule(mode), statistics[0]), 0.0)
    elif statistics:
        for end, expected in zip(statistics, (-1.0, 1.0), strict=True):
            np.testing.assert_allclose(normalise(rule(mode), end), expected)


def test_an_interval_of_no_width_stays_finite() -> None:
    """An element that never moved in the data normalises to a finite number and comes back as it was."""
    still = Normalisation(mode="min_max", size=1, statistics={"min": (3.0,), "max": (3.0,)})
    assert normalise(still, np.array([3.0], np.float32)) == [-1.0]
    assert unnormalise(still, np.array([0.5], np.float32)) == pytest.approx([3.0])


@pytest.mark.parametrize(
    "statistics",
    [{}, {"mean": (0.0, 0.0)}, {"mean": (0.0,), "std": (1.0, 1.0)}, {"mean": (0.0, float("nan")), "std": (1.0, 1.0)}],
)
def test_statistics_that_are_missing_are_refused(statistics: dict[str, tuple[float, ...]]) -> None:
    """A mode without all of its numbers, one for each element and finite, is refused with a remedy."""
    with pytest.raises(ArtifactError, match="needs 2 finite numbers"):
        Normalisation(mode="mean_std", size=2, statistics=statistics)


def test_steps_end_where_the_schedule_says() -> None:
    """Times begin at the start and leave out the end; the steps together lead from one to the other."""
    schedule = Schedule(steps=4, start=1.0, end=0.0)
    np.testing.assert_array_equal(times(schedule), np.array([1.0, 0.75, 0.5, 0.25], np.float32))
    assert step_size(schedule) * schedule.steps == -1.0


def test_prompts() -> None:
    """A task ends with one newline, or is told with the state in bins from -1 (below the lowest) to 255."""
    vla = some_vla()
    assert (
        prompt_text(vla, "pick", np.zeros(2, np.float32))
        == prompt_text(vla, "pick\n", np.zeros(2, np.float32))
        == "pick\n"
    )
    told = some_vla(prompt=msgspec.structs.replace(vla.prompt, template="task_and_state"))
    state = np.array([-1.5, -1.0, 0.0, 2.0], np.float32)
    assert prompt_text(told, "pick_the\npeg ", state) == "Task: pick the peg, State: -1 0 128 255;\nAction: "


def test_actions_are_cut_unnormalised_and_made_absolute(artifact: Artifact) -> None:
    """Rows before `first_action` and columns beyond the action are cut, relative ones get the state, bounds become -1 and 1."""
    fields = tuple(
        msgspec.structs.replace(artifact.specification.action[0], name=name, low=(-10.0,), high=(10.0,))
        for name in "ab"
    )
    specification = msgspec.structs.replace(
        artifact.specification,
        robot="foreign",
        action_space="foreign",
        delta_base="none",
        flange_t_tip=(),
        rest_q=(),
        chunk_steps=2,
        execute_steps=2,
        action=fields,
    )
    vla = some_vla(relative=(True, False))
    sample = np.zeros((4, 8), np.float32)
    sample[1:3, :2] = [[-1.0, 1.0], [1.0, -1.0]]
    sample[:, 2:] = sample[0] = 7.0
    chunk = actions(vla, specification, sample, np.array([5.0, 5.0], np.float32))
    np.testing.assert_allclose(chunk, [[0.5, 0.5], [0.7, -0.3]], atol=1e-6)


def test_padding_is_zeros() -> None:
    """A vector keeps its values in front of zeros."""
    np.testing.assert_array_equal(padded(np.array([1.0, 2.0], np.float32), 4), [[1.0, 2.0, 0.0, 0.0]])


def test_contradictions_are_refused() -> None:
    """A policy narrower than its state, and an action relative to a state that is not there, are refused."""
    for changes in ({"width": 1}, {"relative": (True,)}, {"relative": (True, True, True)}):
        with pytest.raises(ArtifactError, match="export it again"):
            some_vla(**changes)


def test_only_a_prefix_policy_has_these_rules(artifact: Artifact) -> None:
    """The tokenizer is a file of the artifact like the others; the rules and the policy `prefix_step` go together."""
    manifest = msgspec.structs.replace(artifact.manifest, policy="prefix_step", vla=some_vla())
    assert named_files(manifest)["tokenizer.json"] == "0" * 64
    assert parse_manifest(msgspec.json.encode(manifest), "one") == manifest
    odd: tuple[Manifest, ...] = (
        msgspec.structs.replace(manifest, vla=None),
        msgspec.structs.replace(manifest, policy="chunk"),
    )
    for wrong in odd:
        with pytest.raises(Refused, match="vision-language-action"):
            parse_manifest(msgspec.json.encode(wrong), "one")
