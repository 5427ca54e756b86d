"""A VLA's expert learns from a cached prefix exactly as it would from the whole network."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from poco.learner.vla import flow
from poco.learner.vla.policy import VlaPolicy, flow_time
from poco.learner.vla.prefixes import Prefixes
from poco.specification import unscale
from poco.vla import PolicyType
from poco.vla_numbers import actions, normalise, padded, physical_state, prompt_text
from vla import tiny
from vla.learning_policies import drawn, learning_policy

KINDS: tuple[PolicyType, ...] = ("smolvla", "pi0", "pi05")
TENSORS = {"smolvla": 27, "pi0": 29, "pi05": 32}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=KINDS)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VlaPolicy:
    return learning_policy(request.param, tmp_path_factory.mktemp(request.param))


def told_to(policy: VlaPolicy, states: list[np.ndarray]) -> list[torch.Tensor]:
    """Tokens and token mask for the normalised `states`."""
    texts = [prompt_text(policy._vla, tiny.TASK, state) for state in states]
    words = [policy._tokenizer.encode(text, policy._vla.prompt.length) for text in texts]
    return [torch.from_numpy(np.concatenate(part)) for part in zip(*words, strict=True)]


def joint_loss(policy: VlaPolicy, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """Loss [B] by the library's joint forward pass over prefix and actions, from numbers computed as the robot computes them."""
    vla, told = policy._vla, policy.specification
    observations = given["observation"].numpy()
    states = [normalise(vla.state, physical_state(told, row)) for row in observations]
    tokens, mask = told_to(policy, states)
    wanted = [normalise(vla.action, unscale(told.action, chunk).astype(np.float32)) for chunk in given["chunk"].numpy()]
    whole = torch.zeros(len(states), vla.chunk_length, vla.width)
    for row, inner in enumerate(wanted):
        places = np.clip(np.arange(vla.chunk_length) - vla.first_action, 0, len(inner) - 1)
        whole[row, :, : vla.action.size] = torch.from_numpy(inner[places])
    camera = torch.full((len(states), 3, vla.cameras[0].height, vla.cameras[0].width), -1.0)
    absent = torch.zeros(len(states), dtype=torch.bool)
    inputs = [[camera] * len(vla.cameras), [absent] * len(vla.cameras), tokens, mask]
    if vla.type != "pi05":
        inputs.append(torch.from_numpy(np.concatenate([padded(state, vla.width) for state in states])))
    found = policy._library.model.forward(*inputs, whole, noise=given["noise"], time=flow_time(given["time"]))
    rows = slice(vla.first_action, vla.first_action + told.chunk_steps)
    errors, valid = found[:, rows, : vla.action.size].mean(-1), given["valid"]
    loss: torch.Tensor = (errors * valid).sum(-1) / valid.sum(-1)
    return loss


def gradients(policy: VlaPolicy, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    names, parameters = zip(*flow.trained(policy._library), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def test_the_cached_loss_and_its_gradient_are_those_of_the_whole_network(policy: VlaPolicy) -> None:
    """Loss of every sample and gradient of every tensor of the expert: cached prefix against the library's joint forward, 1e-6."""
    given = drawn(policy, 6)
    ours = policy.loss(
        policy.encode(given["observation"]), *(given[name] for name in ("chunk", "noise", "time", "valid"))
    )
    theirs = joint_loss(policy, given)
    assert ours.shape == (6,)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    found, expected = gradients(policy, ours.mean()), gradients(policy, theirs.mean())
    assert len(found) == TENSORS[policy._vla.type]
    for name, gradient in found.items():
        assert float(gradient.abs().max()) > 0, name
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-6, msg=name)


def test_samples_are_those_that_the_robot_would_execute(policy: VlaPolicy) -> None:
    """Chunks of the library's sample_actions, un-normalised and scaled by the rules of the robot, equal `sample`."""
    given, vla, told = drawn(policy, 4, seed=1), policy._vla, policy.specification
    chunks = policy(given["observation"], given["noise"])
    for row, observation in enumerate(given["observation"].numpy()):
        physical = physical_state(told, observation)
        state = normalise(vla.state, physical)
        tokens, mask = told_to(policy, [state])
        camera, absent = torch.full((1, 3, vla.cameras[0].height, vla.cameras[0].width), -1.0), torch.zeros(1).bool()
        inputs = [[camera] * len(vla.cameras), [absent] * len(vla.cameras), tokens, mask]
        if vla.type != "pi05":
            inputs.append(torch.from_numpy(padded(state, vla.width)))
        with torch.no_grad():
            whole = policy._library.model.sample_actions(*inputs, noise=given["noise"][row : row + 1])
        expected = actions(vla, told, whole[0].numpy(), physical)
        np.testing.assert_allclose(chunks[row].numpy(), expected, atol=1e-5)


def test_candidates_share_the_prefix_of_their_observation(policy: VlaPolicy) -> None:
    """16 candidates of 3 observations need no prefix that `encode` has not made, and get the chunks that each would get alone."""
    given = drawn(policy, 3, seed=2)
    context = policy.encode(given["observation"])
    made, noise = policy.prefixes.made, torch.randn(48, *policy.noise_shape, generator=torch.Generator().manual_seed(0))
    chunks = policy.sample(context.repeat_interleave(16, dim=0), noise)
    assert policy.prefixes.made == made
    alone = torch.cat([policy.sample(context[row // 16 : row // 16 + 1], noise[row : row + 1]) for row in range(48)])
    torch.testing.assert_close(chunks, alone, rtol=0, atol=1e-5)
    assert policy.prefixes.made == made


def test_prefixes_are_made_as_often_as_they_differ_and_kept_within_their_bound(tmp_path: Path) -> None:
    """pi0 has one prefix for all observations, SmolVLA one for each; without room for them the loss is the same, more slowly."""
    roomy = learning_policy("smolvla", tmp_path / "roomy")
    tight = learning_policy("smolvla", tmp_path / "tight")
    tight.prefixes = Prefixes(limit_bytes=1)
    given = drawn(roomy, 5, seed=3)
    losses = []
    for policy in (roomy, tight):
        context = policy.encode(given["observation"])
        losses.append(policy.loss(context, *(given[name] for name in ("chunk", "noise", "time", "valid"))))
    torch.testing.assert_close(*losses)
    assert (roomy.prefixes.made, roomy.prefixes.count) == (5, 5)
    assert roomy.for_critic(given["observation"]).shape == (5, 19 + 16)
    assert roomy.prefixes.made == 5
    assert tight.prefixes.made > 5
    assert tight.prefixes.count == 1
    one = learning_policy("pi0", tmp_path / "one")
    one.encode(given["observation"])
    one(given["observation"], given["noise"])
    assert one.prefixes.made == 1
    assert torch.equal(one.for_critic(given["observation"]), given["observation"])


def test_a_copy_has_an_expert_of_its_own_and_shares_the_rest(policy: VlaPolicy) -> None:
    """What a copy learns does not reach the policy; what makes prefixes exists once; tensors are taken over strictly."""
    other, given = copy.deepcopy(policy), drawn(policy, 2, seed=4)
    before = policy(given["observation"], given["noise"])
    for parameter in other.parameters():
        parameter.data.add_(0.01)
    torch.testing.assert_close(policy(given["observation"], given["noise"]), before, rtol=0, atol=0)
    assert not torch.equal(other(given["observation"], given["noise"]), before)
    ours, theirs = (dict(one._library.named_parameters()) for one in (policy, other))
    expert = policy.state_dict().keys()
    assert all((ours[name] is theirs[name]) == (name not in expert) for name in ours)
    assert not any(parameter.requires_grad for name, parameter in ours.items() if name not in expert)
    other.load_state_dict(policy.state_dict())
    torch.testing.assert_close(other(given["observation"], given["noise"]), before, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="not the tensors"):
        other.load_state_dict(dict(list(policy.state_dict().items())[1:]))


def test_times_are_drawn_as_the_library_draws_them() -> None:
    """Mean, least and quantiles of Beta(1.5, 1) * 0.999 + 0.001, from uniform numbers."""
    times = flow_time(torch.linspace(0, 1, 100_001))
    assert float(times.min()) == pytest.approx(0.001)
    assert float(times.max()) == pytest.approx(1.0)
    assert float(times.mean()) == pytest.approx(0.6 * 0.999 + 0.001, abs=1e-4)
    drawn = torch.distributions.Beta(1.5, 1.0).sample((200_000,)) * 0.999 + 0.001
    for share in (0.1, 0.5, 0.9):
        assert float(times.quantile(share)) == pytest.approx(float(drawn.quantile(share)), abs=0.01)


def test_no_rows_are_no_work(policy: VlaPolicy) -> None:
    """A batch in which no episode was cut off asks for no chunks, and gets none."""
    given = drawn(policy, 1)
    context = policy.encode(given["observation"][:0])
    assert policy.sample(context, given["noise"][:0]).shape == (0, *given["chunk"].shape[1:])
    losses = policy.loss(context, *(given[name][:0] for name in ("chunk", "noise", "time", "valid")))
    assert losses.shape == (0,)
