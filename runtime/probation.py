"""What a new generation has to show with the arm in its hands: a sequential test of its episodes against the active ones'."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from poco.runtime.actors import ChunkFigures
from poco.settings import SwapSettings
from poco.statistics import likelihood_ratio_log, wilson_interval

BASELINE_EPISODES = 50
CAUTION = 1.2815515655446004
"""One-sided 90 % quantile of the normal distribution: how far below what was seen a sound generation may be."""

FALSE_ALARM = 0.001
"""So rarely at most is a generation refused, for each of the things counted, that does as well as `expected`."""

MISS = 0.05
"""So rarely is a generation called sound that is as bad as the test looks for."""

ALARM = math.log((1.0 - MISS) / FALSE_ALARM)
LATE_ALARM = ALARM / 2.0
"""What has to speak against a generation to refuse it when probation is over without an answer."""

RELIEF = math.log(MISS / (1.0 - FALSE_ALARM))
CLEAN_EPISODES = 10
"""An active generation seen in fewer episodes counts as if the rest had gone without fault, hold, late or slowed chunk."""


class Answer(Enum):
    """What a sequential test says."""

    SOUND = auto()
    BAD = auto()
    OPEN = auto()


@dataclass(frozen=True, slots=True)
class Rule:
    """A sequential probability ratio test of the share of good episodes: as large as `expected`, or `bad_ratio` times that.

    It answers `most` episodes after the beginning at the latest.
    """

    expected: float
    bad_ratio: float
    most: int

    def evidence(self, good: int, episodes: int) -> float:
        """Return what `good` of `episodes` say against the generation (logarithm of a ratio of likelihoods)."""
        if self.expected <= 0.0:
            return -math.inf
        return likelihood_ratio_log(good, episodes, self.expected, self.bad_ratio * self.expected)

    def answer(self, good: int, episodes: int) -> Answer:
        """Return what follows from `good` of `episodes`."""
        evidence, over = self.evidence(good, episodes), episodes >= self.most
        if evidence >= (LATE_ALARM if over else ALARM):
            return Answer.BAD
        return Answer.SOUND if over or evidence <= RELIEF else Answer.OPEN


def expected_of(good: int, episodes: int) -> float:
    """Return the share of good episodes that is due after `good` of `episodes` of the active generation, cautiously."""
    return wilson_interval(good, episodes, CAUTION)[0]


@dataclass(slots=True)
class Tally:
    """How one episode, or what has been driven of it, went."""

    success: bool = False
    fault: bool = False
    chunks: int = 0
    slowed: int = 0
    late: int = 0
    holds: int = 0

    def add(self, figures: ChunkFigures) -> None:
        """Take in one chunk."""
        self.chunks += 1
        self.slowed += figures.stretched or figures.stopped_first
        self.late += figures.late
        self.holds += figures.interrupted

    @property
    def slowed_share(self) -> float:
        """Fraction of its chunks that had to be slowed down."""
        return self.slowed / max(1, self.chunks)


@dataclass(frozen=True, slots=True)
class Count:
    """One thing that is counted over episodes: `bad` tells whether it happened, `sure` whether that is known while one lasts."""

    name: str
    sentence: str
    bad: Callable[[Tally], bool]
    sure: Callable[[Tally], bool] = lambda tally: False
    clean_before: int = CLEAN_EPISODES


class Probation:
    """Counts how a candidate does with the arm in its hands, against how the active generation did."""

    def __init__(self, settings: SwapSettings) -> None:
        self._settings = settings
        self._baseline: deque[Tally] = deque(maxlen=BASELINE_EPISODES)
        self._episodes: list[Tally] = []
        self._tally = Tally()
        self._shared = False
        many_late = f"had more than {settings.late_max} chunks that came after their attach tick"
        many_holds = f"brought the arm to more than {settings.holds_max} holds"
        many_slowed = f"had {settings.clip_margin:.0%} more chunks slowed down than usual"
        self._counts = (
            Count("fault", "ended with a latched fault", lambda tally: tally.fault),
            Count("late", many_late, self._many_late, self._many_late),
            Count("holds", many_holds, self._many_holds, self._many_holds),
            Count("limits", many_slowed, lambda tally: tally.slowed_share > self._slowed_allowed),
            Count("success", "failed", lambda tally: not tally.success, clean_before=0),
        )
        self._rules: tuple[Rule, ...] = ()
        self._slowed_allowed = 0.0

    def _many_late(self, tally: Tally) -> bool:
        return tally.late > self._settings.late_max

    def _many_holds(self, tally: Tally) -> bool:
        return tally.holds > self._settings.holds_max

    @property
    def baseline_known(self) -> bool:
        """Whether the active generation has been seen often enough to compare another one with it."""
        return len(self._baseline) >= self._settings.baseline_episodes

    def begin(self) -> None:
        """Start counting anew for a candidate that gets the arm now; what the active one did of this episode is not counted."""
        self._episodes, self._tally = [], Tally()
        usual = [tally.slowed_share for tally in self._baseline]
        self._slowed_allowed = sum(usual) / max(1, len(usual)) + self._settings.clip_margin
        self._rules = tuple(self._rule(count) for count in self._counts)

    def _rule(self, count: Count) -> Rule:
        """Return the test of one thing counted."""
        bad, seen = sum(map(count.bad, self._baseline)), len(self._baseline)
        expected = expected_of(max(seen, count.clean_before) - bad, max(seen, count.clean_before))
        return Rule(expected, self._settings.bad_ratio, self._settings.probation_episodes_max)

    def promoted(self) -> None:
        """Make the candidate's episodes the measure for the next one."""
        self._baseline.extend(self._episodes)

    def lost_the_arm(self) -> None:
        """Count an episode that the candidate has begun for nobody."""
        self._shared = self._tally.chunks > 0
        self._tally = Tally()

    def chunk(self, figures: ChunkFigures) -> None:
        """Take in one chunk of whoever drives."""
        self._tally.add(figures)

    def episode(self, success: bool, fault: bool) -> None:
        """Take in how an episode of the candidate ended."""
        self._episodes.append(self._end(success, fault))

    def baseline_episode(self, success: bool, fault: bool) -> None:
        """Take in how an episode of the active generation ended."""
        tally = self._end(success, fault)
        if not self._shared:
            self._baseline.append(tally)
        self._shared = False

    def helped_episode(self) -> None:
        """Count an episode that a person helped in for nobody."""
        self._tally, self._shared = Tally(), False

    def _end(self, success: bool, fault: bool) -> Tally:
        tally, self._tally = self._tally, Tally()
        tally.success, tally.fault = success, fault
        return tally

    @property
    def served(self) -> bool:
        """Whether the candidate has driven for long enough, and every test says that it is sound."""
        driven = len(self._episodes)
        return driven >= self._settings.probation_episodes and all(
            rule.answer(driven - sum(map(count.bad, self._episodes)), driven) is Answer.SOUND
            for count, rule in zip(self._counts, self._rules, strict=True)
        )

    def objection(self) -> str:
        """Return what speaks against the candidate so far, or nothing."""
        for count, rule in zip(self._counts, self._rules, strict=True):
            sure = count.sure(self._tally)
            bad, driven = sum(map(count.bad, self._episodes)) + sure, len(self._episodes) + sure
            if rule.answer(driven - bad, driven) is Answer.BAD:
                return f"{count.name}: {bad} of {driven} episodes {count.sentence}, {self._usual(count)}"
        return ""

    def _usual(self, count: Count) -> str:
        return f"usual are {sum(map(count.bad, self._baseline))} of {len(self._baseline)}"
