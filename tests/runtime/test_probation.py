"""How often probation refuses: computed exactly for each thing counted, drawn for all of them together."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from probation import Habits, average_course, chain, course, drive

from poco.runtime.actors import ChunkFigures
from poco.runtime.probation import ALARM, BASELINE_EPISODES, CLEAN_EPISODES, Answer, Probation, Rule, expected_of
from poco.runtime.run_flags import PACKAGED_CONFIG
from poco.settings import SwapSettings, read_settings

SETTINGS = read_settings(PACKAGED_CONFIG, {}).swap
GOOD = ChunkFigures(stretched=False, stopped_first=False, late=False, interrupted=False)


@pytest.mark.parametrize("usual", [0.2, 0.3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize(("baseline", "refused_max"), [(10, 0.007), (50, 0.003)])
def test_a_generation_as_good_as_the_active_one_is_kept(usual: float, baseline: int, refused_max: float) -> None:
    """Over all outcomes of the baseline, long or just long enough; it is decided after less than 20 episodes."""
    one = average_course(SETTINGS, baseline, usual, usual)
    assert one.refused < refused_max
    assert one.episodes < 20.0


@pytest.mark.parametrize("usual", [0.5, 0.7, 0.9])
def test_a_better_generation_is_refused_still_more_rarely(usual: float) -> None:
    """Ten points more than usual."""
    better = average_course(SETTINGS, BASELINE_EPISODES, usual, usual + 0.1)
    same = average_course(SETTINGS, BASELINE_EPISODES, usual, usual)
    assert better.refused < same.refused
    assert better.episodes < same.episodes


@pytest.mark.parametrize(
    ("usual", "baseline", "refused_min"),
    [(0.9, 10, 0.99), (0.7, 10, 0.99), (0.5, 10, 0.94), (0.5, 50, 0.999), (0.3, 50, 0.92)],
)
def test_a_generation_that_never_succeeds_is_refused(usual: float, baseline: int, refused_min: float) -> None:
    """Surely where the active one succeeds often; where it hardly does, only as far as thirty episodes can tell."""
    assert average_course(SETTINGS, baseline, usual, 0.0).refused > refused_min


def test_a_quarter_of_the_usual_success_is_refused() -> None:
    """What the test looks for is missed as rarely as it says, where the maximum does not cut it short."""
    assert average_course(SETTINGS, BASELINE_EPISODES, 0.9, 0.9 / 4).refused > 0.95
    uncut = Rule(0.8, 0.25, 1000)
    assert course(uncut, 1, 0.2).refused > 0.95
    assert course(uncut, 1, 0.8).refused < 0.001


@pytest.mark.parametrize("success", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("rest", [0.0, 0.1])
def test_generations_that_follow_one_another_are_kept(success: float, rest: float) -> None:
    """Four hundred as good as each other, with faults, holds, late and slowed chunks: each is measured by those kept before it."""
    reasons, _ = chain(SETTINGS, Habits(success, rest, rest, rest / 2.0, rest), 400, seed=1)
    assert len(reasons) <= 6, reasons


@pytest.mark.parametrize(
    ("habits", "reason", "within"),
    [
        (Habits(0.0), "success", 9),
        (Habits(0.0, fault=0.99), "fault", 4),
        (Habits(0.8, held=1.0), "holds", 4),
        (Habits(0.8, late=1.0), "late", 4),
        (Habits(0.8, slowed=0.95), "limits", 8),
    ],
)
def test_each_fault_is_found_within_a_few_episodes(habits: Habits, reason: str, within: int) -> None:
    """Against an active generation that succeeds in 16 of 20 episodes with nothing else amiss."""
    random, probation = np.random.default_rng(0), Probation(SETTINGS)
    for number in range(20):
        probation.chunk(GOOD)
        probation.baseline_episode(number % 5 > 0, False)
    probation.begin()
    for _ in range(within):
        probation.episode(*drive(probation, SETTINGS, habits, random))
        assert not probation.served
        if probation.objection():
            break
    assert probation.objection().startswith(reason)


def test_one_fault_where_there_were_none_is_no_objection_two_are_not_enough_three_are() -> None:
    """The first may be chance; none of them lets probation end with it."""
    probation = Probation(SETTINGS)
    for _ in range(BASELINE_EPISODES):
        probation.baseline_episode(True, False)
    probation.begin()
    for faults in (1, 2):
        probation.episode(False, True)
        assert probation.objection() == "", faults
        assert not probation.served
    probation.episode(False, True)
    assert probation.objection() == "fault: 3 of 3 episodes ended with a latched fault, usual are 0 of 50"


def test_holds_count_while_the_episode_lasts() -> None:
    """The third episode with too many holds loses the arm before it ends."""
    probation = Probation(SETTINGS)
    for _ in range(BASELINE_EPISODES):
        probation.baseline_episode(True, False)
    probation.begin()
    interrupted = ChunkFigures(stretched=False, stopped_first=False, late=False, interrupted=True)
    for episode in range(3):
        for _ in range(SETTINGS.holds_max + 1):
            assert probation.objection() == ""
            probation.chunk(interrupted)
        if episode < 2:
            probation.episode(True, False)
    assert probation.objection().startswith("holds: 3 of 3 episodes brought the arm to more than 3 holds")


def test_an_episode_that_a_refused_generation_began_counts_for_nobody() -> None:
    """What it spoilt is not the active generation's; the next one is again."""
    probation = Probation(msgspec.structs.replace(SETTINGS, baseline_episodes=1))
    probation.begin()
    probation.chunk(GOOD)
    probation.lost_the_arm()
    probation.baseline_episode(False, True)
    assert not probation.baseline_known
    probation.baseline_episode(True, False)
    assert probation.baseline_known


def test_an_episode_that_a_person_helped_in_counts_for_nobody() -> None:
    """Neither its holds nor its end are those of candidate or active generation; the next episode counts from its first chunk."""
    probation = Probation(msgspec.structs.replace(SETTINGS, baseline_episodes=1))
    interrupted = ChunkFigures(stretched=False, stopped_first=False, late=False, interrupted=True)
    for _ in range(2 * SETTINGS.holds_max):
        probation.chunk(interrupted)
        probation.helped_episode()
    assert not probation.baseline_known
    probation.baseline_episode(True, False)
    probation.begin()
    for _ in range(3):
        for _ in range(SETTINGS.holds_max):
            probation.chunk(interrupted)
        probation.helped_episode()
        probation.chunk(interrupted)
        probation.episode(True, False)
    assert probation.objection() == ""


def test_a_hardly_known_robot_is_taken_to_be_clean_and_not_to_succeed() -> None:
    """Without a baseline nothing can be said about success; faults in every episode are found all the same."""
    assert Rule(expected_of(0, 0), 0.25, 30).answer(0, 1) is Answer.SOUND
    probation = Probation(SETTINGS)
    probation.begin()
    for _ in range(4):
        probation.episode(False, True)
    assert CLEAN_EPISODES == 10
    assert probation.objection() == "fault: 4 of 4 episodes ended with a latched fault, usual are 0 of 0"


def test_a_trial_ends_at_its_maximum() -> None:
    """At the maximum half the evidence is enough to refuse, and without it the generation is kept."""
    rule = Rule(0.3, 0.25, 30)
    assert rule.answer(0, 29) is Answer.BAD or rule.evidence(0, 29) < ALARM
    answers = [rule.answer(good, 30) for good in range(6)]
    assert Answer.OPEN not in answers
    assert answers[0] is Answer.BAD
    assert answers[5] is Answer.SOUND


def settings_with(**changes: int) -> SwapSettings:
    """The shipped settings with others; raises ValueError as reading them does."""
    return msgspec.convert(msgspec.to_builtins(SETTINGS) | changes, SwapSettings)


def test_a_maximum_below_the_minimum_is_refused() -> None:
    """One sentence with both numbers."""
    with pytest.raises(msgspec.ValidationError, match="probation_episodes_max is 4 episodes"):
        settings_with(probation_episodes=5, probation_episodes_max=4)
