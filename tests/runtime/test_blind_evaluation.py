"""Policies against each other on the emulated arm: everyone as often, in an order of the seed, told only afterwards."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from poco.artifact import read_artifact
from poco.episodes import read_episode
from poco.errors import ArtifactError, UsageError
from poco.runtime.blind import POLICY_LABEL, blind_order
from poco.runtime.blind_evaluation import EVALUATION, PICTURE, Evaluation, check_alike, evaluate, options_of
from poco.runtime.run_folder import RunFolder
from poco.runtime.run_options import RunOptions
from programs import ARTIFACT, ROOT, Program

CLUMSY = ROOT / "artifacts" / "peg_in_hole_start" / "policy"
SEEN = ROOT / "artifacts" / "peg_in_hole_seen"
TRIALS = 2


@given(st.integers(2, 8), st.integers(1, 40), st.integers(0, 2**40))
def test_every_round_has_every_policy_once(policies: int, trials: int, seed: int) -> None:
    """So the arm, the light and whoever judges change for all of them alike; the same seed gives the same order."""
    order = blind_order(policies, trials, seed)
    rounds = [order[first : first + policies] for first in range(0, len(order), policies)]
    assert [sorted(one) for one in rounds] == [list(range(policies))] * trials
    assert order == blind_order(policies, trials, seed)


def test_the_order_is_not_always_the_same() -> None:
    """Over many rounds each of two policies begins about as often."""
    assert 400 < sum(blind_order(2, 1, seed)[0] for seed in range(1000)) < 600


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's policy and the clumsy one that learning begins with, twice each."""
    folder = tmp_path_factory.mktemp("evaluated")
    flags = ["--robot", "sim", "--robot.host", "127.0.19.21", "--emulator.pacing", "lockstep", "--trials", str(TRIALS)]
    program = Program(
        "poco-runtime", "evaluate", str(ARTIFACT), str(CLUMSY), *flags, "--out", str(folder / "run"), folder=folder
    )
    try:
        assert (program.wait(), program.err) == (0, "")
        return folder / "run", program.out
    finally:
        program.end()


def test_all_of_it_adds_up(evaluated: tuple[Path, str]) -> None:
    """Each acted in its episodes and as often; JSON, table and episode files say the same, and the picture is there."""
    folder, out = evaluated
    ends = [read_episode(file).end for file in sorted((folder / "episodes").glob("*.safetensors"))]
    found = msgspec.json.decode((folder / EVALUATION).read_bytes(), type=Evaluation)
    letters = "".join(end.labels[POLICY_LABEL] for end in ends)
    assert letters == found.order == "".join("AB"[number] for number in blind_order(2, TRIALS, 0))
    assert Counter(letters) == {"A": TRIALS, "B": TRIALS}
    for one, artifact in zip(found.contestants, (ARTIFACT, CLUMSY), strict=True):
        assert Path(one.artifact) == Path(artifact).resolve()
        assert one.name in out
        assert one.outcomes == [end.outcome == "success" for end in ends if end.labels[POLICY_LABEL] == one.letter]
        assert 0.0 <= one.low <= one.rate <= one.high <= 1.0
        assert f"{one.successes} of {TRIALS}" in out
    assert found.contestants[0].successes == TRIALS
    with Image.open(folder / PICTURE) as picture:
        assert picture.width > 400


def test_each_drove_with_its_own_weights(evaluated: tuple[Path, str]) -> None:
    """The first chunks of the two differ though noise and start are alike: another policy chose them."""
    folder, _ = evaluated
    episodes = [read_episode(file) for file in sorted((folder / "episodes").glob("*.safetensors"))]
    generations = {name: read_artifact(path).manifest.generation for name, path in (("A", ARTIFACT), ("B", CLUMSY))}
    for episode in episodes:
        assert {step.generation for step in episode.steps} == {generations[episode.end.labels[POLICY_LABEL]]}
    assert not (folder.parent / "journal-fr3").exists()
    assert (folder / "journal").is_dir()


def test_a_run_broken_off_counts_what_there_is(evaluated: tuple[Path, str], tmp_path: Path) -> None:
    """Without a single episode of one policy nothing is said about the difference."""
    folder, _ = evaluated
    copy = shutil.copytree(folder, tmp_path / "run")
    for file in (copy / "episodes").glob("*.safetensors"):
        if read_episode(file).end.labels[POLICY_LABEL] == "B":
            file.unlink()
    options = msgspec.json.decode((copy / "options.json").read_bytes(), type=RunOptions)
    first, second = evaluate(RunFolder.open(copy), options).contestants
    assert (first.successes, second.outcomes) == (TRIALS, [])
    assert (second.gain_low, second.gain_high) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([str(ARTIFACT)], "1 policies are given, must be 2 to 8"),
        ([str(ARTIFACT), "operator"], "operator and hands are no artifacts"),
        ([str(ARTIFACT), str(CLUMSY), "--trials", "0"], "--trials is 0, must be 1 or more"),
        ([str(ARTIFACT), str(CLUMSY), "--link", "tcp://127.0.0.1:7766"], "--link is not for evaluate"),
        ([str(ARTIFACT), str(CLUMSY), "--episodes=9"], "--episodes is not for evaluate: --trials counts"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], says: str) -> None:
    """One sentence each."""
    with pytest.raises(UsageError, match=says):
        options_of([*words, "--robot", "sim"])


def test_policies_of_two_specifications_are_refused() -> None:
    """One that sees through cameras and one that is told by sensors do not take turns."""
    with pytest.raises(ArtifactError, match="compare policies of one specification"):
        check_alike(read_artifact(ARTIFACT), [read_artifact(SEEN)])
