"""A training run learns, resumes exactly, survives kills and poison, and watches over its success."""

from __future__ import annotations

import copy
import multiprocessing
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import yaml

import poco
from poco.errors import ArtifactError, SettingsError, UsageError
from poco.learner import rollouts, training_state
from poco.learner.checkpoint import Checkpoint, read_checkpoint
from poco.learner.evaluation import read_subject
from poco.learner.learning import Run
from poco.learner.metrics import read_figures
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.recipe import TrainingSettings, read_training_settings
from poco.learner.rollouts import Environment
from poco.learner.success_guard import GuardSettings, GuardState, judge
from poco.learner.trained_policy import flow_policy
from poco.learner.training import TRAINING_SEED, Learner, evaluation_seed
from poco.learner.training_commands import FRESH_SEED, TASK, train
from poco.learner.training_state import Identity, Progress, TrainingState, read_state, write_state
from poco.noise import NoiseSource
from reach_task import SPECIFICATION

RECIPE = Path(poco.__file__).parent / "configs" / "cpu" / "peg_in_hole.yaml"
SHORT = {
    "environment": {"variant": "easy", "episode_steps": 10},
    "episodes": 5,
    "batch": 8,
    "warm_up_steps": 15,
    "checkpoint_interval": 2,
    "evaluation_interval": 0,
    "evaluation_episodes": 1,
    "replay_bytes": 100_000,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def settings() -> TrainingSettings:
    """The committed recipe with small networks, short episodes and few of them."""
    recipe = read_training_settings(RECIPE)
    agent = msgspec.structs.replace(recipe.agent, candidates=4, zeta=0.0, critic_hidden_sizes=(16, 16))
    return msgspec.structs.replace(recipe, **SHORT, agent=agent)


@pytest.fixture(scope="module")
def environment(settings: TrainingSettings) -> Environment:
    return rollouts.make_environment(settings.task, **settings.environment)


@pytest.fixture(scope="module")
def start(environment: Environment) -> Checkpoint:
    specification = rollouts.specification_of(environment)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Checkpoint(specification, FlowPolicy(Architecture.of(specification, (16, 16))), {})


def finish(run: Run, environment: Environment, resume: bool = False) -> Learner:
    learner = Learner(run, environment, resume)
    for _ in learner.episodes():
        pass
    return learner


def same_tensors(first: Path, second: Path) -> bool:
    one, two = read_checkpoint(first).policy.state_dict(), read_checkpoint(second).policy.state_dict()
    return all(torch.equal(value, two[key]) for key, value in one.items())


def test_resumed_run_equals_the_unbroken_one(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """Stopped beyond its last checkpoint and resumed: the same figures, weights, average, moments and generator bit for bit."""
    recipe = msgspec.structs.replace(settings, average_rate=0.1)
    whole = finish(Run(recipe, 3, tmp_path / "whole", start=start), environment)
    run = Run(recipe, 3, tmp_path / "broken", start=start)
    broken = iter(Learner(run, environment).episodes())
    for _ in range(3):
        next(broken)
    resumed = Learner(run, environment, resume=True)
    assert (resumed.progress.episodes, resumed.replay.episodes) == (2, 2)
    for _ in resumed.episodes():
        pass
    assert [figures.phase for figures in read_figures(run.out)] == [
        "frozen",
        "frozen",
        "learning",
        "learning",
        "learning",
    ]
    assert read_figures(run.out) == read_figures(tmp_path / "whole")
    assert same_tensors(run.out, tmp_path / "whole")
    assert resumed.identity.digest() == whole.identity.digest()
    tensors = read_state(run.out / "states").tensors
    for key, value in read_state(tmp_path / "whole" / "states").tensors.items():
        assert torch.equal(value, tensors[key]), key
    assert not same_tensors(run.out, run.out / "best")


def test_purely_online_from_a_fresh_actor_with_every_method(
    settings: TrainingSettings, environment: Environment, tmp_path: Path
) -> None:
    """Without a start every method acts, learns and leaves a readable policy; updates follow the control steps."""
    for method in ("poco", "poco-noclip", "poco-noestep", "qc", "bc"):
        agent = msgspec.structs.replace(settings.agent, method=method)
        recipe = msgspec.structs.replace(settings, agent=agent, episodes=2, warm_up="cloning", evaluation_interval=2)
        learner = finish(Run(recipe, 0, tmp_path / method), environment)
        assert (learner.progress.steps, learner.progress.updates, learner.progress.refused) == (20, 27, 0)
        assert read_checkpoint(tmp_path / method).metrics["online_updates"] == 27.0
        assert set(read_figures(tmp_path / method)[1].evaluation) == {"plain", "best_of_8", "critic_trust"}


def test_evaluations_come_by_steps_however_long_episodes_are(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """Every 25 steps of episodes of 10: with episodes 3, 5 and 8, also where the run was resumed in between."""
    recipe = msgspec.structs.replace(settings, episodes=8, updates_per_step=0.0, evaluation_interval_steps=25)
    run = Run(recipe, 0, tmp_path, start=start)
    broken = Learner(run, environment).episodes()
    for _ in range(4):
        next(broken)
    finish(run, environment, resume=True)
    assert [one.episode for one in read_figures(tmp_path) if one.evaluation] == [3, 5, 8]


def test_evaluations_never_see_an_episode_that_was_learned_from() -> None:
    """However long a run is, their seeds lie between those of `evaluate` and those of the first run's training episodes."""
    seeds = [evaluation_seed(episodes) for episodes in range(1, 5000)]
    assert seeds[:2] == [5_010_000, 5_020_000]
    assert len(set(seeds)) == 500
    assert FRESH_SEED + 1_000_000 < min(seeds) < max(seeds) + 1000 < TRAINING_SEED


def test_the_critic_chooses_what_is_executed_after_the_warm_up_only(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """With collecting_samples 4 the episodes of the warm-up are those of one sample, the next is another one."""
    recipe = msgspec.structs.replace(settings, episodes=3, updates_per_step=0.0)
    learners = [
        finish(
            Run(msgspec.structs.replace(recipe, collecting_samples=count), 0, tmp_path / str(count), start=start),
            environment,
        )
        for count in (1, 4)
    ]
    plain, chosen = (learner.replay.windows(np.arange(30)).actions for learner in learners)
    assert torch.equal(plain[:16], chosen[:16])
    assert not torch.allclose(plain[21:], chosen[21:])
    assert learners[1].run.settings.best_of == 1


def test_beliefs_of_an_episode_come_from_before_it_was_learned_from(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """One belief for each executed chunk whose actions all took place, by the target critic as it was when the episode ended."""
    recipe = msgspec.structs.replace(
        settings,
        environment={**settings.environment, "episode_steps": 20},
        episodes=1,
        warm_up_steps=0,
        agent=msgspec.structs.replace(settings.agent, critic_clock_steps=0),
    )
    longer = rollouts.make_environment(recipe.task, **recipe.environment)
    learner = Learner(Run(recipe, 0, tmp_path, start=start), longer)
    fresh = copy.deepcopy(learner.agent.target)
    for _ in learner.episodes():
        pass
    windows = learner.replay.windows(np.array([0, 5, 10]))
    with torch.no_grad():
        expected = fresh.values(windows.observation, windows.actions[:, None], recipe.agent.aggregate)[:, 0]
        later = learner.agent.beliefs(windows)
    (figures,) = read_figures(tmp_path)
    assert figures.beliefs == pytest.approx(expected.tolist(), abs=1e-6)
    assert not torch.allclose(later, expected)


def test_the_average_acts_and_the_actor_learns(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """The average follows the actor by its rate, not while that is frozen; it acts and is kept; a roll-back resets both."""
    learner = Learner(Run(msgspec.structs.replace(settings, average_rate=0.25), 0, tmp_path, start=start), environment)
    learner.admit(next(rollouts.roll(environment, learner.actor(1, 0), range(1), learner.first_seed)))
    learner.update("frozen")
    weight, average = (
        flow_policy(learner.policy).velocity_layer.weight,
        flow_policy(learner.acting).velocity_layer.weight,
    )
    assert torch.equal(average, weight)
    expected = average.detach().clone()
    for _ in range(3):
        learner.update("learning")
        expected = torch.lerp(expected, weight.detach(), 0.25)
    assert torch.allclose(average, expected, rtol=0.0, atol=1e-7)
    assert not torch.allclose(average, weight)
    learner.checkpoint()
    subject = read_subject(tmp_path)
    assert torch.equal(flow_policy(subject.policy).velocity_layer.weight, average)
    assert torch.equal(flow_policy(read_checkpoint(tmp_path).policy).velocity_layer.weight, average)
    observation, noise = torch.zeros(1, learner.specification.observation_size), NoiseSource(4)
    shape = (1, learner.specification.chunk_steps, learner.specification.action_size)
    with torch.no_grad():
        meant = learner.acting(observation, torch.from_numpy(noise.sample(0, 0, shape)))[0].numpy()
    assert np.array_equal(learner.actor(1, 4)(observation[0].numpy(), 0, 0), meant)
    learner._roll_back()
    assert torch.equal(weight, flow_policy(start.policy).velocity_layer.weight)
    assert torch.equal(average, weight)


def test_last_three_checkpoints_are_kept(settings: TrainingSettings, environment: Environment, tmp_path: Path) -> None:
    """With one checkpoint an episode, those of the last three of five episodes remain, and nothing half-written."""
    finish(Run(msgspec.structs.replace(settings, checkpoint_interval=1), 0, tmp_path), environment)
    assert [file.name for file in sorted((tmp_path / "states").iterdir())] == [
        f"{episode:08d}.safetensors" for episode in (3, 4, 5)
    ]


IDENTITY = Identity(
    settings=read_training_settings(RECIPE),
    seed=0,
    specification=SPECIFICATION,
    architecture=Architecture.of(SPECIFICATION, (16,)),
)


def state(episodes: int, size: int = 1000, value: float = 1.0) -> TrainingState:
    return TrainingState(IDENTITY, Progress(episodes=episodes), episodes, {"weights": torch.full((size,), value)})


def _write_for_ever(folder: Path) -> None:
    episode = 1
    while True:
        write_state(folder, state(episode, 200_000, float(episode % 100)))
        episode += 1


def test_kill_during_checkpointing_leaves_a_loadable_one(tmp_path: Path) -> None:
    """Twelve processes that do nothing but write checkpoints are killed at different points; the newest always loads whole."""
    write_state(tmp_path, state(0, 200_000, 0.0))
    for attempt in range(12):
        process = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(tmp_path,))
        process.start()
        time.sleep(0.02 + 0.0037 * attempt)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        found = read_state(tmp_path)
        assert torch.equal(found.tensors["weights"], torch.full((200_000,), float(found.progress.episodes % 100)))
        assert found.progress.episodes == found.replay_watermark
        for file in tmp_path.iterdir():
            file.unlink()
        write_state(tmp_path, state(0, 200_000, 0.0))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_poison_never_reaches_a_checkpoint(tmp_path: Path, poison: float) -> None:
    """A weight that is not finite or has exploded is refused with one sentence and the checkpoint before stays."""
    write_state(tmp_path, state(1))
    with pytest.raises(ArtifactError, match="the checkpoint is not written"):
        write_state(tmp_path, state(2, value=poison))
    assert read_state(tmp_path).progress.episodes == 1
    assert [file.name for file in tmp_path.iterdir()] == ["00000001.safetensors"]


def test_poisoned_learning_ends_the_run_and_loses_nothing(
    settings: TrainingSettings, environment: Environment, tmp_path: Path
) -> None:
    """A critic that has gone wrong makes every update refused: the run ends with a sentence, the checkpoint before loads."""
    recipe = msgspec.structs.replace(settings, updates_per_step=3.0, checkpoint_interval=1)
    run = Run(recipe, 0, tmp_path)
    learner = Learner(run, environment)
    episodes = learner.episodes()
    next(episodes)
    weights = {key: value.clone() for key, value in learner.policy.state_dict().items()}
    with torch.no_grad():
        next(learner.agent.target.parameters()).fill_(float("nan"))
    with pytest.raises(ArtifactError, match="lower the learning rates"):
        next(episodes)
    resumed = Learner(run, environment, resume=True)
    assert resumed.progress.episodes == 1
    assert all(torch.equal(value, resumed.policy.state_dict()[key]) for key, value in weights.items())


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """A checkpoint that does not fit is refused, and the one before still loads."""
    write_state(tmp_path, state(1))

    def write_with_no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_state(tmp_path, state(2, 100_000))
        except ArtifactError as error:
            os._exit(3 if "free space and resume" in str(error) else 4)

    process = multiprocessing.get_context("fork").Process(target=write_with_no_room)
    process.start()
    process.join()
    assert process.exitcode == 3
    assert read_state(tmp_path).progress.episodes == 1


def test_states_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """No state and a truncated one give one sentence each."""
    with pytest.raises(ArtifactError, match="start without --resume"):
        read_state(tmp_path)
    write_state(tmp_path, state(1))
    file = tmp_path / "00000001.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ArtifactError, match="remove it to resume from the one before"):
        read_state(tmp_path)


def test_a_state_of_other_networks_is_refused(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """A tensor that is missing or of another shape, and random numbers of another kind of device, give one sentence each."""
    run = Run(msgspec.structs.replace(settings, episodes=1), 0, tmp_path, start=start)
    finish(run, environment)
    whole = read_state(tmp_path / "states")
    for key, changed, sentence in (
        ("critic.value_layer.bias", None, "does not hold what it needs"),
        ("actor.velocity_layer.weight", torch.zeros(3, 16), "does not hold what it needs"),
        ("generator", whole.tensors["generator"][:16], "resume it with the --device it was begun with"),
    ):
        tensors = {**whole.tensors} if changed is None else {**whole.tensors, key: changed}
        if changed is None:
            del tensors[key]
        write_state(tmp_path / "states", replace(whole, tensors=tensors))
        with pytest.raises(ArtifactError, match=sentence):
            Learner(run, environment, resume=True)
    write_state(tmp_path / "states", whole)
    assert Learner(run, environment, resume=True).progress.episodes == 1


def test_states_of_other_versions(tmp_path: Path) -> None:
    """A state from before there were inboxes is resumed from, one of a later poco refused."""
    write_state(tmp_path, state(1))
    file = tmp_path / "00000001.safetensors"
    content = file.read_bytes()
    before, now = (f'\\"format\\":\\"poco-training\\",\\"version\\":{version}'.encode() for version in (2, 3))
    assert content.count(now) == 1
    file.write_bytes(content.replace(now, before))
    assert read_state(tmp_path).progress.episodes == 1
    file.write_bytes(content.replace(now, before[:-1] + b"9"))
    with pytest.raises(ArtifactError, match="is poco-training v9"):
        read_state(tmp_path)


def test_optimizer_and_generator_come_back(tmp_path: Path) -> None:
    """Moments, step counts and the state of the generator survive; parameters never stepped have none."""
    weights = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    optimizers = [torch.optim.Adam(weights, 0.1) for _ in range(2)]
    weights[0].grad = torch.tensor([1.0, 2.0, 3.0])
    optimizers[0].step()
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    torch.randn(5, generator=generators[0])
    tensors = training_state.optimizer_tensors(optimizers[0]) | training_state.generator_tensors(generators[0])
    write_state(tmp_path, TrainingState(IDENTITY, Progress(), 0, tensors))
    found = read_state(tmp_path).tensors
    training_state.restore_optimizer(optimizers[1], found)
    training_state.restore_generator(generators[1], found)
    first, second = (optimizer.state_dict()["state"] for optimizer in optimizers)
    assert set(first) == set(second) == {0}
    assert all(torch.equal(first[0][key], second[0][key]) for key in first[0])
    assert torch.equal(torch.randn(4, generator=generators[0]), torch.randn(4, generator=generators[1]))


def test_a_run_may_take_more_updates_than_a_weight_may_be_large(tmp_path: Path) -> None:
    """Adam counts its steps in a number of floating point: beyond two million of them the checkpoint is still written."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], 0.1, fused=True)
    weight.grad = torch.ones(3)
    optimizer.step()
    optimizer.state[weight]["step"].fill_(2.0 * training_state.WEIGHT_MAX)
    tensors = training_state.optimizer_tensors(optimizer)
    write_state(tmp_path, TrainingState(IDENTITY, Progress(updates=2_000_000), 0, tensors))
    restored = torch.optim.Adam([weight], 0.1, fused=True)
    training_state.restore_optimizer(restored, read_state(tmp_path).tensors)
    assert float(restored.state[weight]["step"]) == 2_000_000.0
    moment = {"optimizer.0.exp_avg": torch.full((3,), 2.0 * training_state.WEIGHT_MAX)}
    with pytest.raises(ArtifactError, match="exp_avg has a value"):
        write_state(tmp_path, TrainingState(IDENTITY, Progress(), 0, moment))


def test_damaged_metrics_are_refused(tmp_path: Path) -> None:
    """No metrics and a half-written line give one sentence each."""
    with pytest.raises(ArtifactError, match="no metrics"):
        read_figures(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"episode": 1, "st')
    with pytest.raises(ArtifactError, match="damaged line"):
        read_figures(tmp_path)


GUARD = GuardSettings(window=4, margin=0.15, span=2)


def test_guard_returns_when_success_stays_too_low() -> None:
    """Level 75 % in the warm-up; a better average is the best so far; below 60 % for more than two episodes asks to roll back."""
    state = GuardState()
    for success in (True, True, False, True):
        assert judge(state, GUARD, success, warming_up=True) == "best_so_far"
    assert state.baseline == 0.75
    online = [True, True, True, False, False, False, False]
    verdicts = [judge(state, GUARD, success, warming_up=False) for success in online]
    assert verdicts == ["go_on", "go_on", "best_so_far", "go_on", "go_on", "go_on", "roll_back"]
    assert (state.baseline, state.best, state.roll_backs, state.outcomes) == (0.75, 1.0, 1, [])


def test_the_guard_knows_what_was_measured_of_the_start(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """A success that `evaluate` has left with the starting checkpoint is the cloned level, whatever the warm-up shows."""
    measured = Checkpoint(start.specification, start.policy, {"success_easy": 0.7})
    learner = Learner(Run(settings, 0, tmp_path / "measured", start=measured), environment)
    next(learner.episodes())
    assert learner.progress.guard.baseline == 0.7
    learner = Learner(Run(settings, 0, tmp_path / "unknown", start=start), environment)
    next(learner.episodes())
    assert learner.progress.guard.baseline == learner.progress.guard.recent


def test_where_the_best_actor_itself_lies_too_low_the_level_is_what_it_reaches() -> None:
    """A level that was measured too high by luck asks for one return; what was returned to, seen for a window, sets the level, and
    from then on only what falls below that is taken back."""
    state = GuardState(baseline=0.9, measured=True, best=0.5)
    verdicts = [judge(state, GUARD, success, False, by_best=False) for success in [True, False] * 3]
    assert verdicts == ["go_on"] * 5 + ["roll_back"]
    verdicts = [judge(state, GUARD, success, False, by_best=True) for success in [True, False] * 5]
    assert verdicts == ["go_on"] * 3 + ["lower_level"] + ["go_on"] * 6
    assert (state.baseline, state.roll_backs) == (0.5, 1)
    verdicts = [judge(state, GUARD, success, False, by_best=False) for success in [True] + [False] * 6]
    assert verdicts == ["go_on"] * 4 + ["roll_back"] + ["go_on"] * 2


def test_only_what_the_returned_actor_drove_is_measured_after_a_return() -> None:
    """Robots that still have the actor from before a return do not count, a level that it reaches stays, and where it never
    drives the guard does not wait for ever."""
    state = GuardState(baseline=0.75, best=1.0, awaiting=12)
    drives = [(False, False), (True, True), (False, False), (True, True), (True, True)]
    assert {judge(state, GUARD, success, False, by_best) for success, by_best in drives} == {"go_on"}
    assert (state.outcomes, state.awaiting) == ([True] * 3, 7)
    assert judge(state, GUARD, False, False, by_best=True) == "go_on"
    assert (state.baseline, state.best, state.awaiting) == (0.75, 1.0, 0)
    state = GuardState(baseline=0.75, best=1.0, awaiting=12)
    assert {judge(state, GUARD, False, False) for _ in range(12)} == {"go_on"}
    verdicts = [judge(state, GUARD, False, False) for _ in range(6)]
    assert (state.outcomes, verdicts) == ([], ["go_on"] * 5 + ["roll_back"])


def test_a_freeze_lasts_until_the_returned_actor_was_measured(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """Under a level out of reach and with no steps of warm-up a run returns once; broken off and resumed it stays frozen until the
    level is what the returned actor reaches, and returns no more."""
    guard = GuardSettings(window=3, margin=0.1, span=0)
    settings = msgspec.structs.replace(settings, guard=guard, warm_up_steps=0, episodes=20)
    run = Run(settings, 0, tmp_path, start=start)
    learner = Learner(run, environment)
    learner.progress.guard = GuardState(baseline=2.0, measured=True, best=2.0)
    before = [next(learner.episodes()) for _ in range(3)]
    assert [one.verdict for one in before] == ["go_on", "go_on", "roll_back"]
    resumed = Learner(run, environment, resume=True)
    after = list(resumed.episodes())
    assert [one.verdict for one in after[:3]] == ["go_on", "go_on", "lower_level"]
    assert [one.phase for one in after[:4]] == ["frozen"] * 3 + ["learning"]
    assert after[2].recent_success == sum(one.success for one in after[:3]) / 3
    assert resumed.progress.guard.baseline == after[2].recent_success
    assert resumed.progress.guard.roll_backs == 1


def test_guard_is_patient() -> None:
    """A dip no longer than the span, and one within the margin, are borne."""
    state = GuardState(outcomes=[True] * 4, baseline=0.6, best=1.0)
    outcomes = [False, False, False, True, True, False, True]
    assert {judge(state, GUARD, success, warming_up=False) for success in outcomes} == {"go_on"}


def test_roll_back_restores_the_best_actor_and_freezes_it(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """A fallen success brings the actor of the warm-up back bit for bit; the next episodes train the critic only, and as that actor
    drives them nothing is taken back: what it reaches is the level."""
    settings = msgspec.structs.replace(settings, guard=GuardSettings(window=1, margin=0.1, span=1), episodes=6)
    learner = Learner(Run(settings, 0, tmp_path, start=start), environment)
    episodes = learner.episodes()
    for _ in range(2):
        assert next(episodes).verdict == "best_so_far"
    learner.progress.guard.baseline = 0.9
    figures = [next(episodes) for _ in range(3)]
    assert [one.verdict for one in figures] == ["go_on", "roll_back", "lower_level"]
    assert [one.phase for one in figures] == ["learning", "learning", "frozen"]
    for key, value in start.policy.state_dict().items():
        assert torch.equal(value, learner.policy.state_dict()[key]), key
    assert next(episodes).verdict == "go_on"
    assert (learner.progress.guard.baseline, learner.progress.guard.roll_backs) == (learner.progress.guard.recent, 1)


def test_command_learns_resumes_and_draws(
    settings: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train` leaves policy, best policy, states, metrics and curves; with --resume it goes on to more episodes."""
    config, out = tmp_path / "recipe.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(msgspec.to_builtins(settings)))
    train(out, config, episodes=1, method="qc")
    train(out, episodes=2, resume=True)
    said = capsys.readouterr()
    lines = [msgspec.json.decode(line) for line in said.out.splitlines()]
    assert [line["online_episodes"] for line in lines] == [1.0, 2.0]
    assert "end already" not in said.err
    train(out, resume=True, episodes=2)
    assert "the run has come to its end already: --episodes or --steps moves it" in capsys.readouterr().err
    names = {"policy.safetensors", "best", "states", "replay", "metrics.jsonl", "curves.png"}
    assert {item.name for item in out.iterdir()} == names
    with pytest.raises(ArtifactError, match="already holds a replay"):
        train(out, config)
    with pytest.raises(ArtifactError, match="resume it with its own"):
        train(out, config, resume=True)
    with pytest.raises(UsageError, match="--config is missing"):
        train(tmp_path / "new")
    with pytest.raises(UsageError, match="--episodes is 0"):
        train(out, config, episodes=0)


def test_wrong_recipes_and_specifications_are_refused(
    settings: TrainingSettings, environment: Environment, start: Checkpoint, tmp_path: Path
) -> None:
    """Missing file, no YAML, unknown key, impossible value and a start of another specification: one sentence each."""
    tree = yaml.safe_load(RECIPE.read_text())
    with pytest.raises(SettingsError, match="does not exist"):
        read_training_settings(tmp_path / "absent.yaml")
    file = tmp_path / "recipe.yaml"
    for text, sentence in (
        ("{", "is not YAML"),
        (yaml.safe_dump({**tree, "bacth": 3}), "did you mean batch"),
        (yaml.safe_dump({**tree, "agent": {**tree["agent"], "method": "ppo"}}), "agent.method"),
        (yaml.safe_dump({**tree, "batch": 0}), "batch"),
        (yaml.safe_dump({**tree, "agent": {**tree["agent"], "step_cost": 0.01}}), "set step_cost to 0"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError, match=sentence):
            read_training_settings(file)
    other = msgspec.structs.replace(start.specification, name="other")
    with pytest.raises(ArtifactError, match="clone again"):
        Learner(Run(settings, 0, tmp_path, start=Checkpoint(other, start.policy, {})), environment)
    assert settings.task == TASK
