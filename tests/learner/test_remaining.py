"""What remains to the target after each action is what the numbers of the specification say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import poco
from poco.errors import SettingsError
from poco.learner.critic import ChunkCritic, CriticArchitecture
from poco.learner.remaining import Remaining
from poco.specification import Specification, read_specification, scale

PEG = Path(poco.__file__).parent / "configs" / "peg_in_hole_specification.yaml"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def peg() -> Specification:
    return read_specification(PEG)


def seen(peg: Specification, **fields: list[float]) -> torch.Tensor:
    """An observation [1, O] with the named fields in their units, the others in the middle of their range."""
    values = [v for one in peg.observation for v in fields.get(one.name, np.add(one.low, one.high) / 2.0)]
    return torch.from_numpy(scale(peg.observation, np.array(values))[None]).float()


def test_target_less_lead_less_what_was_moved(peg: Specification) -> None:
    """Offset 8 mm and lead 2 mm in x leave 6, after two steps of 3 mm nothing, after a third 3 mm too far; yaw likewise."""
    remaining = Remaining(peg)
    assert remaining.size == 4
    observation = seen(
        peg, target_offset_coarse=[0.008, 0.0, -0.1], lead_position=[0.002, 0.0, 0.0], target_yaw_coarse=[0.05]
    )
    steps = np.array([[0.003, 0.0, -0.005, 0.025]] * 3)
    actions = torch.from_numpy(scale(peg.action, steps)).float()[None, None]
    found = remaining(observation, actions)[0, 0].atanh()
    torch.testing.assert_close(found[:, 0], torch.tensor([0.6, 0.0, -0.6]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, 1], torch.zeros(3), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(found[:, 3], torch.tensor([0.5, 0.0, -0.5]), atol=1e-4, rtol=1e-4)
    assert (remaining(observation, actions)[0, 0, :, 2] < -0.999).all()


def test_a_clock_behind_the_observation_changes_nothing(peg: Specification) -> None:
    """The critic's own further entry of the observation is not mistaken for a field."""
    remaining, actions = Remaining(peg), torch.rand(5, 2, 6, 4)
    observation = torch.rand(5, peg.observation_size)
    clocked = torch.cat((observation, torch.ones(5, 1)), dim=-1)
    assert torch.equal(remaining(observation, actions), remaining(clocked, actions))


def test_a_critic_that_reads_it_learns_where_a_chunk_leads(peg: Specification) -> None:
    """Whether a chunk ends within 1.5 mm of the target: after as many steps it is told apart better than from actions alone."""
    settings = CriticArchitecture.of(peg, (32, 32), 1, "bce", clock=False)
    draws = torch.Generator().manual_seed(0)
    observation = torch.rand(2000, peg.observation_size, generator=draws) * 2.0 - 1.0
    observation[:, 4:6] *= 0.05
    observation[:, 12:14] *= 0.05
    actions = torch.randn(2000, 1, settings.steps, 4, generator=draws) * 0.3
    near = Remaining(peg)(observation, actions)[:, 0, -1, :2].atanh().norm(dim=-1) * 5.0 < 1.5
    losses = {}
    for name, remaining in (("actions", None), ("remaining", Remaining(peg))):
        torch.manual_seed(0)
        critic = ChunkCritic(settings, remaining)
        optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
        for _ in range(200):
            loss = critic.loss(critic(observation[:1500], actions[:1500]).squeeze(-1), near[:1500].float()).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            raw = critic(observation[1500:], actions[1500:]).squeeze(-1)
            losses[name] = float(critic.loss(raw, near[1500:].float()).mean())
    assert losses["remaining"] < 0.9 * losses["actions"], losses


def test_a_specification_without_target_is_refused(specification: Specification) -> None:
    """One sentence names what is missing and what to set."""
    with pytest.raises(
        SettingsError, match=r"lacks one of target_offset, lead_position and tip_step: set it to actions"
    ):
        Remaining(specification)
