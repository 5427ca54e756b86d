"""The flow policy computes the equations of flow matching, and its split first layer changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from poco.errors import ArtifactError
from poco.learner.networks import Architecture, FlowPolicy
from poco.specification import Specification


@pytest.fixture
def policy(specification: Specification) -> FlowPolicy:
    torch.manual_seed(0)
    policy = FlowPolicy(Architecture.of(specification, (32, 24)))
    policy.mean.copy_(torch.randn(6))
    policy.std.copy_(torch.rand(6) + 0.5)
    return policy


def test_split_first_layer_is_one_layer_over_the_concatenation(policy: FlowPolicy) -> None:
    """Context plus chunk half equals a linear layer over concat(normalised observation, chunk, t)."""
    observation, point, time = torch.randn(7, 6), torch.randn(7, 20), torch.rand(7, 1)
    weight = torch.cat((policy.observation_layer.weight, policy.chunk_layer.weight), dim=1)
    joined = torch.cat(((observation - policy.mean) / policy.std, point, time), dim=1)
    features = functional.silu(functional.linear(joined, weight, policy.observation_layer.bias))
    expected = policy.velocity_layer(functional.silu(policy.hidden_layers[0](features)))
    torch.testing.assert_close(policy.velocity(policy.encode(observation), point, time), expected)


def test_loss_is_the_masked_mean_squared_velocity_error(policy: FlowPolicy) -> None:
    """Per sample: mean over T * A of (v(x_t) - (chunk - noise))^2, steps that are not valid counting zero."""
    observation, chunk, noise = torch.randn(3, 6), torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    time, valid = torch.tensor([0.0, 0.3, 0.9]), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    context = policy.encode(observation)
    loss = policy.loss(context, chunk, noise, time, valid.float())
    assert loss.shape == (3,)
    for row in range(3):
        between = (1 - time[row]) * noise[row] + time[row] * chunk[row]
        velocity = policy.velocity(context[row : row + 1], between.reshape(1, 20), time[row].reshape(1, 1)).reshape(
            5, 4
        )
        squares = (velocity - (chunk[row] - noise[row])) ** 2
        torch.testing.assert_close(loss[row], squares[valid[row].bool()].sum() / 20)


def test_sample_is_ten_euler_steps_clamped(policy: FlowPolicy) -> None:
    """The sampler integrates the velocity from t = 0 to 1 in ten equal steps and clamps the chunk."""
    observation, noise = torch.randn(4, 6), 3.0 * torch.randn(4, 5, 4)
    point = noise.reshape(4, 20)
    for step in range(10):
        point = point + 0.1 * policy.velocity(policy.encode(observation), point, torch.full((4, 1), step / 10))
    chunk = policy(observation, noise)
    assert chunk.shape == (4, 5, 4)
    assert float(chunk.detach().abs().max()) == 1.0
    torch.testing.assert_close(chunk, point.clamp(-1, 1).reshape(4, 5, 4))


def test_normaliser_statistics_are_buffers(policy: FlowPolicy) -> None:
    """Mean and standard deviation are saved with the weights and not trained."""
    assert {"mean", "std"} <= set(policy.state_dict())
    assert not {"mean", "std"} & {name for name, _ in policy.named_parameters()}


@pytest.mark.parametrize(
    ("hidden_sizes", "euler_steps"), [((), 10), ((0,), 10), ((100_000,), 10), ((8,) * 17, 10), ((8,), 0)]
)
def test_impossible_architectures_are_refused(hidden_sizes: tuple[int, ...], euler_steps: int) -> None:
    """Sizes no network has raise ArtifactError before any memory is taken."""
    with pytest.raises(ArtifactError):
        Architecture(
            observation_size=6, chunk_steps=5, action_size=4, hidden_sizes=hidden_sizes, euler_steps=euler_steps
        )
