"""`poco-runtime evaluate`: policies against each other on the arm, in a random order that is told only afterwards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from poco.artifact import Artifact, read_artifact
from poco.durable import write_durably
from poco.episodes import read_episode
from poco.errors import ArtifactError, UsageError
from poco.runtime import run_flags
from poco.runtime.blind import LETTERS, POLICY_LABEL
from poco.runtime.console import HELP
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import WITHOUT_ARTIFACT, RunOptions
from poco.statistics import difference_interval, wilson_interval

DESCRIPTION = "Compare policies on the arm: each --trials times, in a random order that is told only afterwards."
EPILOG = f"""examples:
  poco-runtime evaluate artifacts/peg_in_hole artifacts/peg_in_hole_start/policy --robot sim --trials 30
  poco-runtime evaluate OLD NEW --robot franka --robot.host 172.16.0.2 --sensors URL --task.outcome none --trials 30

Whether an episode succeeded is what the task says (task.outcome) or what you say at the terminal.
Keys: {HELP}.
The run leaves evaluation.json and evaluation.png. It journals into its own folder and talks to no learner."""
NOT_FOR_EVALUATE = {
    "--episodes": "--trials counts the episodes of each policy",
    "--link": "what is compared must not change meanwhile",
    "--link.learner": "what is compared must not change meanwhile",
    "--keys": "it talks to no learner",
}
EVALUATION, PICTURE = "evaluation.json", "evaluation.png"
SUFFIX = ".safetensors"


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy did: `low` and `high` are the 95 % Wilson interval; against the first, how much more often it succeeded."""

    letter: str
    artifact: str
    outcomes: list[bool]
    successes: int
    rate: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float

    @property
    def name(self) -> str:
        """The last two folders of its artifact, which tell contestants apart."""
        return "/".join(Path(self.artifact).parts[-2:])


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON: policies in the order they were named, with the seed of the order they acted in."""

    seed: int
    order: str
    contestants: list[Contestant]


def options_of(words: Sequence[str]) -> RunOptions:
    """Return the run that `poco-runtime evaluate` is asked for by `words`; raises UsageError, SettingsError or ArtifactError."""
    parser = run_flags.Parser("poco-runtime evaluate", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("policies", nargs="+", metavar="ARTIFACT", help="two policies or more, of one specification")
    parser.add_argument("--trials", type=int, default=30, metavar="N", help="episodes of each policy (default 30)")
    run_flags.add_task_flag(parser)
    run_flags.add_run_flags(parser)
    for name in (word.partition("=")[0] for word in words):
        if name in NOT_FOR_EVALUATE:
            raise UsageError(f"{name} is not for evaluate: {NOT_FOR_EVALUATE[name]}")
    flags, overrides = run_flags.parse_with(parser, words)
    if not 2 <= len(flags.policies) <= len(LETTERS):
        raise UsageError(f"{len(flags.policies)} policies are given, must be 2 to {len(LETTERS)} artifact folders")
    if flags.trials < 1:
        raise UsageError(f"--trials is {flags.trials}, must be 1 or more: 30 tell apart what differs by some 35 points")
    if set(flags.policies) & set(WITHOUT_ARTIFACT):
        raise UsageError("operator and hands are no artifacts: give folders that poco-export has made")
    flags.policy, flags.hands, flags.link, flags.keys = flags.policies[0], None, None, None
    flags.episodes = flags.trials * len(flags.policies)
    options = run_flags.options_of(flags, overrides)
    settings = options.settings
    journal = msgspec.structs.replace(settings.journal, folder=str(Path(options.folder) / "journal"))
    link = msgspec.structs.replace(settings.link, learner="")
    return msgspec.structs.replace(
        options,
        against=tuple(str(Path(policy).resolve()) for policy in flags.policies[1:]),
        settings=msgspec.structs.replace(settings, journal=journal, link=link),
        task=flags.task,
    )


def check_alike(first: Artifact, others: Sequence[Artifact]) -> None:
    """Raise ArtifactError unless all see and do the same."""
    for other in others:
        ours, theirs = first.manifest.specification_hash, other.manifest.specification_hash
        if ours != theirs:
            raise ArtifactError(
                f"{other.path} has specification {theirs[:12]}, {first.path} {ours[:12]}: compare policies of one specification"
            )
        if other.cameras != first.cameras:
            raise ArtifactError(
                f"{other.path} sees through {', '.join(other.cameras) or 'nothing'}, {first.path} through "
                f"{', '.join(first.cameras) or 'nothing'}: compare policies with the same cameras"
            )


def evaluate(folder: RunFolder, options: RunOptions) -> Evaluation:
    """Count what the episodes in `folder` say of each policy; raises ArtifactError if an episode is not readable."""
    ends = [read_episode(file).end for file in sorted(folder.episodes.glob(f"*{SUFFIX}"))]
    order = "".join(end.labels.get(POLICY_LABEL, "?") for end in ends)
    contestants: list[Contestant] = []
    for letter, policy in zip(LETTERS, (options.policy, *options.against), strict=False):
        outcomes = [end.outcome == "success" for end in ends if end.labels.get(POLICY_LABEL) == letter]
        count, successes = len(outcomes), sum(outcomes)
        low, high = wilson_interval(successes, count)
        first = contestants[0] if contestants else None
        both = first is not None and min(count, len(first.outcomes)) > 0
        gain_low, gain_high = (-1.0, 1.0) if first else (0.0, 0.0)
        if first is not None and both:
            gain_low, gain_high = difference_interval((first.successes, len(first.outcomes)), (successes, count))
        rate = successes / count if count else 0.0
        contestants.append(
            Contestant(
                letter=letter,
                artifact=policy,
                outcomes=outcomes,
                successes=successes,
                rate=rate,
                low=low,
                high=high,
                gain=rate - first.rate if first is not None and both else 0.0,
                gain_low=gain_low,
                gain_high=gain_high,
            )
        )
    return Evaluation(seed=options.seed, order=order, contestants=contestants)


def show_evaluation(folder: RunFolder, options: RunOptions, console: Console) -> None:
    """Write evaluation.json and evaluation.png into the run folder and tell which policy was which."""
    from poco.runtime.blind_picture import draw

    found = evaluate(folder, options)
    write_durably(folder.path / EVALUATION, msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    draw(found, folder.path / PICTURE)
    table = Table(title="success on the arm, 95 % intervals", box=None)
    for heading in ("", "policy", "succeeded", "rate", "against A (points)"):
        table.add_column(heading, overflow="fold")
    for one in found.contestants:
        gain = "" if one.letter == "A" else f"{one.gain:+.0%} ({one.gain_low:+.0%} to {one.gain_high:+.0%})"
        rate = f"{one.rate:.0%} ({one.low:.0%} to {one.high:.0%})" if one.outcomes else "not tried"
        table.add_row(one.letter, one.name, f"{one.successes} of {len(one.outcomes)}", rate, gain)
    console.print(table)
    console.print(f"order: {found.order}", highlight=False)
    for path in (EVALUATION, PICTURE):
        console.print(f"  {folder.path / path}", highlight=False, soft_wrap=True)


def contestants_of(options: RunOptions) -> list[Artifact]:
    """Read the policies that take turns with the first; raises ArtifactError."""
    return [read_artifact(Path(policy)) for policy in options.against]
