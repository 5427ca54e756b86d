"""What every benchmark returns, and what is said about it: percentiles, ratios, JSON, budgets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from poco.errors import PocoError, UsageError
from poco.runtime.run_folder import HostFacts, host_facts
from poco.settings import nearest

Floats = npt.NDArray[np.float64]

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


@dataclass(frozen=True, slots=True)
class Measurement:
    """Samples (us) of one subject: one array [n] for each repeat."""

    name: str
    repeats: list[Floats]

    def percentile(self, name: str) -> Floats:
        """Return the percentile `name` of every repeat [repeats] (us)."""
        return np.array([np.percentile(samples, PERCENTILES[name]) for samples in self.repeats])


@dataclass(frozen=True, slots=True)
class Outcome:
    """One benchmark: what was measured, which pairs (subject, competitor) alternated, and what to know when reading it.

    `more` are figures that are neither percentiles nor ratios of them.
    """

    benchmark: str
    what: str
    measurements: list[Measurement]
    pairs: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)
    more: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Return every figure by name: `subject.p99` (us) is a median over repeats, `subject/competitor.p99` of their ratios."""
        by_name = {measurement.name: measurement for measurement in self.measurements}
        figures = {
            f"{name}.{percentile}": float(np.median(measurement.percentile(percentile)))
            for name, measurement in by_name.items()
            for percentile in PERCENTILES
        }
        for subject, competitor in self.pairs:
            for percentile in PERCENTILES:
                ratios = by_name[subject].percentile(percentile) / by_name[competitor].percentile(percentile)
                figures[f"{subject}/{competitor}.{percentile}"] = float(np.median(ratios))
        return figures | self.more


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One subject in the JSON: samples per repeat, and each percentile (us) of every repeat."""

    samples: list[int]
    percentiles_us: dict[str, list[float]]


class OutcomeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of one benchmark; `figures` are medians over the repeats, durations in us, ratios without unit."""

    benchmark: str
    what: str
    command: list[str]
    figures: dict[str, float]
    subjects: dict[str, Subject]
    notes: list[str]
    load_average: float
    computer: HostFacts


def report_of(outcome: Outcome, command: Sequence[str]) -> OutcomeReport:
    """Return `outcome` with the facts of this computer and the command line that made it."""
    subjects = {
        measurement.name: Subject(
            samples=[len(samples) for samples in measurement.repeats],
            percentiles_us={name: measurement.percentile(name).round(3).tolist() for name in PERCENTILES},
        )
        for measurement in outcome.measurements
    }
    return OutcomeReport(
        benchmark=outcome.benchmark,
        what=outcome.what,
        command=list(command),
        figures={name: round(value, 3) for name, value in outcome.figures().items()},
        subjects=subjects,
        notes=outcome.notes,
        load_average=os.getloadavg()[0],
        computer=host_facts(),
    )


def parse_budgets(words: Sequence[str]) -> dict[str, float]:
    """Return the budgets in `words`, each NAME=VALUE; raises UsageError for anything else."""
    budgets = {}
    for word in words:
        name, joined, value = word.partition("=")
        try:
            budgets[name] = float(value)
        except ValueError:
            joined = ""
        if not joined or not budgets[name] >= 0.0:
            raise UsageError(f"--budget {word} must be NAME=VALUE with a number of 0 or more, such as loop.p99=200")
    return budgets


def check_budgets(figures: Mapping[str, float], budgets: Mapping[str, float]) -> None:
    """Raise UsageError for a budget without a figure, PocoError naming every figure above its budget."""
    unknown = [name for name in budgets if name not in figures]
    if unknown:
        raise UsageError(
            f"--budget {unknown[0]} names no figure of this benchmark; {nearest(unknown[0], list(figures))}"
        )
    over = [
        f"{name} is {figures[name]:.3g}, its budget {limit:g}"
        for name, limit in budgets.items()
        if figures[name] > limit
    ]
    if over:
        raise PocoError(f"over budget: {'; '.join(over)}: repeat on an idle computer and look at the picture")
