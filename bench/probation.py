"""How often does probation refuse, and after how many episodes? Computed, nothing is run.

python bench/probation.py [--least 5] [--most 30] [--bad-ratio 0.25] [--chain 2000]

The first table counts success alone, exactly: for a baseline of 50, 20 or 10 episodes of an active generation that succeeds at the
rate of the row, generations that succeed as often, 15 points less often, half, a quarter as often, and never: per cent refused /
mean number of episodes. The second draws --chain generations one after the other, every one as good as all before, with faults,
holds, slowed and late chunks, each taking the last one's place as on a robot.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import msgspec
import numpy as np

from poco.runtime.actors import ChunkFigures
from poco.runtime.probation import Answer, Probation, Rule, expected_of
from poco.runtime.run_flags import PACKAGED_CONFIG
from poco.settings import SwapSettings, read_settings
from poco.statistics import wilson_interval

RATES = (0.3, 0.5, 0.7, 0.9)
BASELINES = (50, 20, 10)
CHUNKS = 12
"""Chunks of an episode in the chain."""


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of a generation on probation: probability that it is refused, and mean number of episodes."""

    refused: float
    episodes: float


def course(rule: Rule, least: int, rate: float) -> Course:
    """Compute the course of a generation whose episodes are good at `rate`, by the number of good ones after each episode."""
    open_, refused, episodes = {0: 1.0}, 0.0, 0.0
    for driven in range(1, rule.most + 1):
        following: dict[int, float] = {}
        for good, probability in open_.items():
            following[good + 1] = following.get(good + 1, 0.0) + probability * rate
            following[good] = following.get(good, 0.0) + probability * (1.0 - rate)
        open_ = {}
        for good, probability in following.items():
            answer = rule.answer(good, driven)
            if answer is Answer.BAD:
                refused, episodes = refused + probability, episodes + probability * driven
            elif answer is Answer.SOUND and driven >= least:
                episodes += probability * driven
            else:
                open_[good] = probability
    return Course(refused, episodes)


def average_course(settings: SwapSettings, baseline: int, usual: float, rate: float) -> Course:
    """The same over all outcomes of `baseline` episodes of an active generation that succeeds at the rate `usual`."""
    refused = episodes = 0.0
    for good in range(baseline + 1):
        weight = math.comb(baseline, good) * usual**good * (1.0 - usual) ** (baseline - good)
        rule = Rule(expected_of(good, baseline), settings.bad_ratio, settings.probation_episodes_max)
        one = course(rule, settings.probation_episodes, rate)
        refused, episodes = refused + weight * one.refused, episodes + weight * one.episodes
    return Course(refused, episodes)


@dataclass(frozen=True, slots=True)
class Habits:
    """What an episode of a generation is like, each with its probability; a chunk of an episode is slowed down with `slowed`."""

    success: float
    fault: float = 0.0
    held: float = 0.0
    late: float = 0.0
    slowed: float = 0.0


def drive(
    probation: Probation, settings: SwapSettings, habits: Habits, random: np.random.Generator
) -> tuple[bool, bool]:
    """Let `probation` see the chunks of an episode; return whether that succeeded and whether it ended with a fault."""
    holds = (settings.holds_max + 1) * int(random.random() < habits.held)
    late = (settings.late_max + 1) * int(random.random() < habits.late)
    share = random.beta(2.0 * habits.slowed, 2.0 * (1.0 - habits.slowed)) if habits.slowed else 0.0
    for chunk in range(CHUNKS):
        probation.chunk(ChunkFigures(bool(random.random() < share), False, chunk < late, chunk < holds))
    fault = bool(random.random() < habits.fault)
    return not fault and bool(random.random() < habits.success / (1.0 - habits.fault)), fault


def chain(settings: SwapSettings, habits: Habits, generations: int, seed: int) -> tuple[list[str], int]:
    """Let `generations` like each other follow one another; return the reasons of those refused and the episodes of all trials."""
    random, probation = np.random.default_rng(seed), Probation(settings)
    while not probation.baseline_known:
        probation.baseline_episode(*drive(probation, settings, habits, random))
    reasons, episodes = list[str](), 0
    for _ in range(generations):
        probation.baseline_episode(*drive(probation, settings, habits, random))
        probation.begin()
        while True:
            probation.episode(*drive(probation, settings, habits, random))
            episodes += 1
            if reason := probation.objection():
                reasons.append(reason)
                probation.lost_the_arm()
                break
            if probation.served:
                probation.promoted()
                break
    return reasons, episodes


def main() -> None:
    shipped = read_settings(PACKAGED_CONFIG, {}).swap
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=int, default=shipped.probation_episodes)
    parser.add_argument("--most", type=int, default=shipped.probation_episodes_max)
    parser.add_argument("--bad-ratio", type=float, default=shipped.bad_ratio)
    parser.add_argument("--chain", type=int, default=2000)
    flags = parser.parse_args()
    settings = msgspec.structs.replace(
        shipped,
        probation_episodes=flags.least,
        probation_episodes_max=flags.most,
        bad_ratio=flags.bad_ratio,
    )
    print("baseline, usual: refused % / episodes at the usual rate, 15 points less, half, a quarter, never")
    for baseline in BASELINES:
        for usual in RATES:
            rates = (usual, usual - 0.15, usual / 2.0, usual / 4.0, 0.0)
            courses = [average_course(settings, baseline, usual, rate) for rate in rates]
            print(
                f"{baseline:3} {usual:.1f}: "
                + "  ".join(f"{100 * one.refused:6.2f} / {one.episodes:4.1f}" for one in courses)
            )
    for usual in RATES:
        for rest in (0.0, 0.1, 0.25):
            habits = Habits(usual, min(rest, 0.9 - usual + 0.05), rest, rest / 2.0, rest)
            reasons, episodes = chain(settings, habits, flags.chain, seed=0)
            low, high = wilson_interval(len(reasons), flags.chain)
            print(
                f"chain {habits}: {len(reasons)} refused ({low:.2%} to {high:.2%}), {episodes / flags.chain:.1f} episodes"
            )
            for reason in reasons[:2]:
                print(f"  {reason}")


if __name__ == "__main__":
    main()
