"""The critic is the network its description says, and its two losses are the ones named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch
from torch.nn import functional

from learning_toys import SMALL, critic_architecture
from poco.errors import ArtifactError
from poco.learner.critic import ChunkCritic, CriticArchitecture
from poco.specification import Specification


@pytest.fixture
def architecture(specification: Specification) -> CriticArchitecture:
    return critic_architecture(specification, SMALL)


def test_reads_pending_and_executed_actions(specification: Specification, architecture: CriticArchitecture) -> None:
    """One delay step and three executed steps make four actions, whatever the length of the chunk."""
    assert (specification.chunk_steps, architecture.steps) == (5, 4)


def test_head_is_an_mlp_over_the_concatenation_with_norms_after_activations(architecture: CriticArchitecture) -> None:
    """Written out again over concat(normalised observation, actions) the head gives the same values for every alternative."""
    torch.manual_seed(0)
    critic = ChunkCritic(architecture)
    critic.mean.copy_(torch.randn(6))
    critic.std.copy_(torch.rand(6) + 0.5)
    observation, actions = torch.randn(3, 6), torch.randn(3, 5, 4, 4)
    observed, acted, last = critic.observation_layer, critic.action_layer, critic.value_layer
    hidden: Any = critic.hidden_layers[0]
    weight = torch.cat((observed.weight[1], acted.weight[1]), dim=1)
    state = ((observation - critic.mean) / critic.std).unsqueeze(1).expand(-1, 5, -1)
    features = functional.linear(torch.cat((state, actions.flatten(2)), -1), weight, observed.bias[1])
    features = functional.layer_norm(functional.silu(features), (16,))
    features = functional.layer_norm(
        functional.silu(functional.linear(features, hidden.weight[1], hidden.bias[1])), (16,)
    )
    expected = functional.linear(features, last.weight[1], last.bias[1]).squeeze(-1)
    raw = critic(observation, actions)
    assert raw.shape == (2, 3, 5)
    torch.testing.assert_close(raw[1], expected)
    assert not torch.allclose(raw[0], raw[1])


def test_values_aggregate_the_heads(architecture: CriticArchitecture) -> None:
    """Mean and minimum over heads; cross-entropy critics give values in 0 to 1."""
    torch.manual_seed(0)
    observation, actions = 3.0 * torch.randn(8, 6), 3.0 * torch.randn(8, 2, 4, 4)
    for loss in ("mse", "bce"):
        critic = ChunkCritic(msgspec.structs.replace(architecture, loss=loss))
        raw = critic(observation, actions)
        heads = raw.sigmoid() if loss == "bce" else raw
        torch.testing.assert_close(critic.values(observation, actions, "mean"), heads.mean(0))
        assert torch.equal(critic.values(observation, actions, "min"), torch.minimum(heads[0], heads[1]))


def test_losses_are_squared_error_and_cross_entropy(architecture: CriticArchitecture) -> None:
    """Both losses, per head and window, equal their definitions; that of soft targets is least where the value is the target."""
    raw, target = torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.tensor([0.25, 1.0])
    squares = ChunkCritic(architecture).loss(raw, target)
    torch.testing.assert_close(squares, torch.tensor([[0.0625, 4.0], [3.0625, 1.0]]))
    critic = ChunkCritic(msgspec.structs.replace(architecture, loss="bce"))
    value = raw.sigmoid()
    expected = -(target * value.log() + (1.0 - target) * (1.0 - value).log())
    torch.testing.assert_close(critic.loss(raw, target), expected)
    logit = torch.logit(target[:1]).requires_grad_()
    (grad,) = torch.autograd.grad(critic.loss(logit[None], target[:1]).sum(), logit)
    assert abs(float(grad)) < 1e-6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"heads": 0}, "0 heads"), ({"hidden_sizes": ()}, "hidden layers"), ({"hidden_sizes": (10**6,)}, "sizes")],
)
def test_impossible_sizes_are_refused(
    architecture: CriticArchitecture, change: dict[str, object], sentence: str
) -> None:
    """No heads, no layers and monstrous layers give one sentence."""
    with pytest.raises(ArtifactError, match=sentence):
        CriticArchitecture(**{**msgspec.structs.asdict(architecture), **change})


def test_values_without_gradient_are_those_with_it(architecture: CriticArchitecture) -> None:
    """Head after head, layer and activation in one pass, gives what all heads together give."""
    torch.manual_seed(0)
    critic = ChunkCritic(msgspec.structs.replace(architecture, heads=3, hidden_sizes=(32, 16, 24)))
    for norm in critic.norms.parameters():
        torch.nn.init.normal_(norm)
    observation, actions = torch.randn(7, 6), torch.randn(7, 5, 4, 4)
    with torch.no_grad():
        alone = critic(observation, actions)
    torch.testing.assert_close(alone, critic(observation, actions).detach(), rtol=1e-5, atol=1e-5)
