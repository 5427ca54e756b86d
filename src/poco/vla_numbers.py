"""Numbers of a vision-language-action policy between observation, prompt, model and action; the same on robot and at export."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.specification import Specification, scale, unscale
from poco.vla import STATISTICS, Normalisation, Schedule, Vla

Floats = npt.NDArray[np.float32]

EPSILON = np.float32(1e-8)
STATE_BINS = 256


def normalise(rule: Normalisation, values: Floats) -> Floats:
    """Return `values` [..., size] (policy's units) as the model sees them."""
    if rule.mode == "identity":
        return values
    first, second = _statistics(rule)
    if rule.mode == "mean_std":
        result: Floats = (values - first) / (second + EPSILON)
        return result
    spread = _spread(first, second)
    result = np.float32(2.0) * (values - first) / spread - np.float32(1.0)
    return result


def unnormalise(rule: Normalisation, values: Floats) -> Floats:
    """Return what the model gives, `values` [..., size], in the policy's units."""
    if rule.mode == "identity":
        return values
    first, second = _statistics(rule)
    if rule.mode == "mean_std":
        result: Floats = values * second + first
        return result
    result = (values + np.float32(1.0)) * _spread(first, second) / np.float32(2.0) + first
    return result


def _statistics(rule: Normalisation) -> tuple[Floats, Floats]:
    first, second = (np.array(rule.statistics[name], np.float32) for name in STATISTICS[rule.mode])
    return first, second


def _spread(low: Floats, high: Floats) -> Floats:
    spread = high - low
    result: Floats = np.where(spread == 0, EPSILON, spread)
    return result


def physical_state(specification: Specification, observation: Floats) -> Floats:
    """Return what `observation` [O] in -1 ... 1 stands for, in physical units."""
    state: Floats = unscale(specification.observation, observation).astype(np.float32)
    return state


def padded(values: Floats, width: int) -> Floats:
    """Return `values` [n] followed by zeros as [1, width]."""
    row = np.zeros((1, width), np.float32)
    row[0, : values.size] = values
    return row


def prompt_text(vla: Vla, task: str, state: Floats) -> str:
    """Return the text of the prompt for `task` and the normalised `state` [S] (which only some templates hold)."""
    if vla.prompt.template == "task":
        return task if task.endswith("\n") else f"{task}\n"
    edges = np.linspace(-1, 1, STATE_BINS + 1)[:-1]
    bins = np.digitize(state, bins=edges) - 1
    words = task.strip().replace("_", " ").replace("\n", " ")
    return f"Task: {words}, State: {' '.join(map(str, bins))};\nAction: "


def times(schedule: Schedule) -> Floats:
    """Return the time of every step, [steps]."""
    result: Floats = np.linspace(schedule.start, schedule.end, schedule.steps + 1)[:-1].astype(np.float32)
    return result


def step_size(schedule: Schedule) -> float:
    """Return by how much of the velocity the sample moves in one step."""
    return (schedule.end - schedule.start) / schedule.steps


def actions(vla: Vla, specification: Specification, sample: Floats, state: Floats) -> Floats:
    """Return the chunk [chunk_steps, action_size] in action units of the model's finished `sample` [T, width].

    `state` [S] is the physical state of the observation that the sample was made from. What is not finite becomes NaN, where
    an infinity clipped to a bound would pass for an action.
    """
    rows = slice(vla.first_action, vla.first_action + specification.chunk_steps)
    physical = unnormalise(vla.action, sample[rows, : vla.action.size])
    if vla.relative:
        relative = np.array(vla.relative)
        physical = physical.copy()
        physical[:, relative] += state[: relative.size][relative[: state.size]]
    chunk: Floats = scale(specification.action, physical).astype(np.float32)
    chunk[~np.isfinite(physical)] = np.nan
    return chunk
