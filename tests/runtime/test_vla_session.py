"""A vision-language-action policy under its session gives what the same policy gives in plain numpy, from frame to action."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
import pytest
from packaging.requirements import Requirement

import toy_vla
from poco import vla_numbers
from poco.artifact import Artifact
from poco.errors import ArtifactError, UsageError
from poco.runtime.prompt import Prompts, check_task
from poco.runtime.vla_session import MISSING, VlaSession
from poco.vla import PolicyType
from programs import ROOT
from toy_vla import LENGTH, TASKS, Toy, Weights, altered, tokens_of

KINDS: tuple[PolicyType, ...] = ("smolvla", "pi0", "pi05")
DRAW = np.random.default_rng(5)
FRAMES = [DRAW.integers(0, 256, (48, 64, 3), np.uint8), DRAW.integers(0, 256, (40, 30, 3), np.uint8)]
OBSERVATION = DRAW.uniform(-0.9, 0.9, 19).astype(np.float32)
TOLERANCE = 2e-5


def noise_of(toy: Toy) -> np.ndarray:
    return np.random.default_rng(9).standard_normal((toy.length, toy_vla.WIDTH), dtype=np.float32)


def other_expert(toy: Toy, seed: int = 1) -> Weights:
    """The weights of another generation."""
    draw = np.random.default_rng(seed)
    return {key: (value + draw.normal(0, 0.2, value.shape)).astype(np.float32) for key, value in toy.trained.items()}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[PolicyType, Artifact]:
    """One artifact of each kind."""
    return {kind: Toy(kind).write(tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.mark.parametrize("in_one", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_actions_are_those_of_the_policy(kind: PolicyType, in_one: bool, tmp_path: Path) -> None:
    """Raw observation, task and frames of two sizes become the actions of numpy, by single steps and by the graph of all steps."""
    toy = Toy(kind, in_one=in_one)
    artifact = toy.write(tmp_path / "artifact")
    for task in TASKS:
        actions = VlaSession(artifact, task).run(OBSERVATION, noise_of(toy), FRAMES)
        expected = toy.actions(task, OBSERVATION, noise_of(toy), FRAMES)
        assert actions.shape == (8, 4)
        assert float(np.abs(expected).max()) < 1.0
        np.testing.assert_allclose(actions, expected, atol=TOLERANCE, rtol=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_matters(kind: PolicyType, artifacts: dict[PolicyType, Artifact]) -> None:
    """Another frame of either camera, task, state or noise moves the actions by more than a hundred times the error allowed."""
    toy, session = Toy(kind), VlaSession(artifacts[kind], TASKS[0])
    noise = noise_of(toy)
    first = session.run(OBSERVATION, noise, FRAMES)
    others = [
        session.run(OBSERVATION, noise, [255 - FRAMES[0], FRAMES[1]]),
        session.run(OBSERVATION, noise, [FRAMES[0], FRAMES[1] // 2]),
        session.run(-OBSERVATION, noise, FRAMES),
        session.run(OBSERVATION, -noise, FRAMES),
        VlaSession(artifacts[kind], TASKS[1]).run(OBSERVATION, noise, FRAMES),
    ]
    assert min(float(np.abs(other - first).max()) for other in others) > 100 * TOLERANCE
    np.testing.assert_array_equal(session.run(OBSERVATION, noise, FRAMES), first)


@pytest.mark.parametrize("kind", KINDS)
def test_the_prefix_runs_only_for_what_enters_it(kind: PolicyType, artifacts: dict[PolicyType, Artifact]) -> None:
    """Same frames, task and state: only the chunk is made anew; another state makes a new prefix just where it enters one."""
    toy, session = Toy(kind), VlaSession(artifacts[kind], TASKS[0])
    runs = count_runs(session)
    session.run(OBSERVATION, noise_of(toy), FRAMES)
    session.run(OBSERVATION, -noise_of(toy), [frame.copy() for frame in FRAMES])
    assert runs == [1]
    session.run(-OBSERVATION, noise_of(toy), FRAMES)
    assert runs == [1 if kind == "pi0" else 2]
    np.testing.assert_allclose(
        session.run(-OBSERVATION, noise_of(toy), FRAMES),
        toy.actions(TASKS[0], -OBSERVATION, noise_of(toy), FRAMES),
        atol=TOLERANCE,
        rtol=0.0,
    )
    before = runs[0]
    changed = FRAMES[0].copy()
    changed[5, 5, 0] ^= 255
    session.run(-OBSERVATION, noise_of(toy), [changed, FRAMES[1]])
    assert runs == [before + 1]


def test_images_are_told_without_taking_them_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the policy would see of other frames is what it sees once it chooses from them; until then nothing has changed."""
    monkeypatch.setattr(toy_vla, "WIDE", toy_vla.HIGH)  # only squares are told
    toy, others = Toy("pi0"), [FRAMES[0][::-1], MISSING]
    session = VlaSession(toy.write(tmp_path / "artifact"), TASKS[0])
    first = session.run(OBSERVATION, noise_of(toy), FRAMES)
    before, told = session.taken_in, session.images_of(others)
    assert before is not None
    assert told is not None
    np.testing.assert_array_equal(session.images_of(FRAMES), before)
    np.testing.assert_array_equal(session.taken_in, before)
    np.testing.assert_array_equal(session.run(OBSERVATION, noise_of(toy), FRAMES), first)
    session.run(OBSERVATION, noise_of(toy), others)
    np.testing.assert_array_equal(session.taken_in, told)
    assert told[0].any()
    assert not told[1].any()


def test_a_prefix_that_failed_runs_again_for_the_same_frames(artifacts: dict[PolicyType, Artifact]) -> None:
    """What a graph did not get through is not taken for seen: the next chunk of the same frames is theirs."""
    toy, session = Toy("smolvla"), VlaSession(artifacts["smolvla"], TASKS[0])
    session.run(OBSERVATION, noise_of(toy), FRAMES)
    others, prefix = [255 - frame for frame in FRAMES], session._prefix

    class Failing:
        def run(self) -> None:
            raise RuntimeError("out of memory")

    session._prefix = Failing()
    with pytest.raises(RuntimeError):
        session.run(OBSERVATION, noise_of(toy), others)
    session._prefix = prefix
    np.testing.assert_allclose(
        session.run(OBSERVATION, noise_of(toy), others),
        toy.actions(TASKS[0], OBSERVATION, noise_of(toy), others),
        atol=TOLERANCE,
        rtol=0.0,
    )


def count_runs(session: VlaSession) -> list[int]:
    """Counts the runs of the session's prefix from now on."""
    runs, prefix = [0], session._prefix

    class Counted:
        def run(self) -> None:
            runs[0] += 1
            prefix.run()

    session._prefix = Counted()
    return runs


@pytest.mark.parametrize("in_one", [False, True])
def test_rebinding_changes_the_expert_and_nothing_else(in_one: bool, tmp_path: Path) -> None:
    """The next chunk is that of the new expert on the prefix that is there; the binding returned brings the old one back."""
    toy = Toy(in_one=in_one)
    session = VlaSession(toy.write(tmp_path / "artifact"), TASKS[0])
    expert, noise = other_expert(toy), noise_of(toy)
    old = session.run(OBSERVATION, noise, FRAMES)
    runs = count_runs(session)
    previous = session.rebind(session.prepare(expert))
    new = session.run(OBSERVATION, noise, FRAMES)
    np.testing.assert_allclose(new, toy.actions(TASKS[0], OBSERVATION, noise, FRAMES, expert), atol=TOLERANCE, rtol=0.0)
    assert float(np.abs(new - old).max()) > 100 * TOLERANCE
    session.rebind(previous)
    np.testing.assert_array_equal(session.run(OBSERVATION, noise, FRAMES), old)
    assert runs == [0]


def test_a_generation_with_another_prefix_is_refused(tmp_path: Path) -> None:
    """Weights of the prefix that are graph inputs are bound once; other values, names and shapes cannot be bound later."""
    toy = Toy(frozen_inputs=True)
    artifact = toy.write(tmp_path / "artifact")
    session = VlaSession(artifact, TASKS[0])
    old = session.run(OBSERVATION, noise_of(toy), FRAMES)
    np.testing.assert_allclose(old, toy.actions(TASKS[0], OBSERVATION, noise_of(toy), FRAMES), atol=TOLERANCE, rtol=0.0)
    good: Weights = dict(artifact.tensors)
    session.prepare({**good, "see": good["see"].copy()})
    for tensors, sentence in (
        ({**good, "see": good["see"] * np.float32(2)}, "only the expert may change"),
        ({key: value for key, value in good.items() if key != "see"}, "another architecture"),
        ({**good, "expert.out": good["expert.out"].T}, "another architecture"),
    ):
        with pytest.raises(ArtifactError, match=sentence):
            session.prepare(tensors)
    np.testing.assert_array_equal(session.run(OBSERVATION, noise_of(toy), FRAMES), old)


def test_golden_vectors_guard_rules_and_weights(tmp_path: Path) -> None:
    """Another expert, one without numbers, another tokenizer rule, image rule, camera order or statistic: golden chunks tell."""
    toy = Toy()
    artifact = toy.write(tmp_path / "artifact")
    vla = artifact.manifest.vla
    assert vla is not None
    near, never, wrist = vla.cameras
    statistics = {name: tuple(2 * value for value in values) for name, values in vla.state.statistics.items()}
    schedule = msgspec.structs.replace(vla.schedule, steps=5)
    for changed in (
        replace(artifact, tensors=other_expert(toy)),
        replace(
            artifact, tensors={**artifact.tensors, "expert.out": np.full_like(artifact.tensors["expert.out"], np.nan)}
        ),
        altered(artifact, cameras=(never, near, wrist)),
        altered(artifact, state=msgspec.structs.replace(vla.state, statistics=statistics)),
        altered(artifact, schedule=schedule),
        altered(artifact, action=msgspec.structs.replace(vla.action, mode="identity", statistics={})),
    ):
        with pytest.raises(ArtifactError, match="differ from its golden ones"):
            VlaSession(changed)
    for changed in (
        altered(artifact, golden_tasks=TASKS[::-1]),
        altered(artifact, prompt=msgspec.structs.replace(vla.prompt, pad_id=2)),
    ):
        with pytest.raises(ArtifactError, match="makes other tokens"):
            VlaSession(changed)
    for golden in (
        {**artifact.golden, "images": artifact.golden["images"][:, :1]},
        {"chunk": artifact.golden["chunk"]},
    ):
        with pytest.raises(ArtifactError, match="lacks golden vectors"):
            VlaSession(replace(artifact, golden=golden))


@pytest.mark.parametrize("kind", KINDS)
def test_a_camera_that_shows_nothing_is_masked_off(kind: PolicyType, artifacts: dict[PolicyType, Artifact]) -> None:
    """Without a frame the image is black and its mask off, as in numpy, and another frame than before counts again."""
    toy, session = Toy(kind), VlaSession(artifacts[kind], TASKS[0])
    for frames in ([FRAMES[0], MISSING], [MISSING, FRAMES[1]], FRAMES):
        expected = toy.actions(TASKS[0], OBSERVATION, noise_of(toy), frames)
        actual = session.run(OBSERVATION, noise_of(toy), frames)
        np.testing.assert_allclose(actual, expected, atol=TOLERANCE, rtol=0.0)


def test_graphs_and_rules_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Missing graphs, wrong widths, lengths and noise shapes are said before anything runs."""
    artifact = Toy(in_one=True).write(tmp_path / "artifact")
    manifest = artifact.manifest
    prefix, step, chunk = manifest.graphs

    def with_graphs(*graphs: object) -> Artifact:
        return replace(artifact, manifest=msgspec.structs.replace(manifest, graphs=graphs))

    fewer = tuple(item for item in prefix.inputs if item.source != "tokens")
    wide = tuple(
        msgspec.structs.replace(item, shape=(1, 5)) if item.source == "state" else item for item in prefix.inputs
    )
    for changed, sentence in (
        (with_graphs(prefix, chunk), "has the graphs prefix, chunk"),
        (with_graphs(msgspec.structs.replace(prefix, inputs=fewer), step, chunk), "expected image_mask, pixels"),
        (with_graphs(msgspec.structs.replace(prefix, inputs=wide), step, chunk), r"its state is float32\[1, 24\]"),
        (with_graphs(prefix, step, msgspec.structs.replace(chunk, outputs=())), "expected one"),
        (replace(artifact, manifest=msgspec.structs.replace(manifest, noise_shape=(8, 4))), "takes noise of"),
        (altered(artifact, first_action=3), "after 3"),
        (replace(artifact, tokenizer=b"{}"), "is no tokenizer"),
    ):
        with pytest.raises(ArtifactError, match=sentence):
            VlaSession(changed)


def test_nothing_raises_for_values_that_are_not_finite(artifacts: dict[PolicyType, Artifact]) -> None:
    """A state that is not finite gives a chunk that is not finite, which the planner refuses, and the next one is sound again."""
    for kind in KINDS:
        toy, session = Toy(kind), VlaSession(artifacts[kind], TASKS[0])
        sound = session.run(OBSERVATION, noise_of(toy), FRAMES)
        session.run(np.full_like(OBSERVATION, np.nan), noise_of(toy), FRAMES)
        assert not np.isfinite(session.run(OBSERVATION, np.full_like(noise_of(toy), np.nan), FRAMES)).any()
        for endless in (np.inf, -np.inf):
            chunk = vla_numbers.actions(
                session._vla, toy.specification, np.full_like(noise_of(toy), endless), OBSERVATION
            )
            assert np.isnan(chunk).all()
        np.testing.assert_array_equal(session.run(OBSERVATION, noise_of(toy), FRAMES), sound)
    with pytest.raises(ValueError, match="1 frames are given"):
        session.run(OBSERVATION, noise_of(toy), FRAMES[:1])


def test_tokens_are_those_of_the_rule(artifacts: dict[PolicyType, Artifact]) -> None:
    """Begin mark, words and the state's numbers in their place, padded on the right, whatever truncation the file asks for."""
    artifact = artifacts["pi05"]
    assert artifact.manifest.vla is not None
    ids, mask = Prompts(artifact, artifact.manifest.vla).tokens(
        "pick_up the peg\n", np.linspace(-1.2, 1.2, 3, dtype=np.float32)
    )
    text = "Task: pick up the peg, State: -1 128 255; Action:"
    expected = tokens_of(text)
    assert len(expected) == 11
    np.testing.assert_array_equal(ids[0, :11], expected)
    assert not ids[0, 11:].any()
    np.testing.assert_array_equal(mask, [[True] * 11 + [False] * (LENGTH - 11)])


def test_what_the_policy_cannot_be_told_is_said_before_motion(artifacts: dict[PolicyType, Artifact]) -> None:
    """No task, a long one, one with control characters, and a task for a policy that takes none are refused with the remedy."""
    for kind in KINDS:
        check_task(artifacts[kind], TASKS[1])
    for task, sentence in (
        ("", 'such as --task "pick up the peg"'),
        ("  ", "is told its task in words"),
        ("pick\tup", "one line"),
        ("peg " * 300, "at most 1000"),
    ):
        with pytest.raises(UsageError, match=sentence):
            check_task(artifacts["smolvla"], task)
    for kind, longest in (("smolvla", 47), ("pi05", 25)):
        check_task(artifacts[kind], "peg " * longest)
        with pytest.raises(UsageError, match=f"has {LENGTH + 1} tokens"):
            check_task(artifacts[kind], "peg " * (longest + 1))
    check_task(None, "")
    with pytest.raises(UsageError, match="not told a task"):
        check_task(None, "pick up the peg")


def test_the_robot_side_needs_neither_torch_nor_transformers() -> None:
    """What pip installs for robot and prompt names neither, all the way down; a process that runs the policy loads neither."""
    seen, waiting = set[str](), [("poco-robot", {"robot", "prompt", "franka", "sim"})]
    while waiting:
        name, extras = waiting.pop()
        for line in metadata.requires(name) or ():
            needed = Requirement(line)
            wanted = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras))
            if wanted and needed.name.lower() not in seen:
                seen.add(needed.name.lower())
                waiting.append((needed.name, set(needed.extras)))
    assert {"tokenizers", "onnxruntime"} <= seen
    assert not {"torch", "transformers", "lerobot", "tensorrt"} & seen
    tiny = ROOT / "artifacts" / "tiny_smolvla"
    program = (
        "import sys, time; from pathlib import Path; import numpy as np; from poco.artifact import read_artifact;"
        "from poco.runtime.vla_session import VlaSession;"
        f"session = VlaSession(read_artifact(Path({str(tiny)!r})), 'pick up the object'); session.warm_up();"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'onnx', 'poco.export'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
