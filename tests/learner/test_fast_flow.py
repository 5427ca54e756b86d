"""The fast policy computes what the plain one does, and bfloat16 changes which candidates are drawn, nothing else."""

from __future__ import annotations

import msgspec
import pytest
import torch

from learning_toys import SMALL, critic_architecture, e_step, m_step
from poco.learner.agent import Agent
from poco.learner.critic import ChunkCritic
from poco.learner.fast_flow import BLOCK_BYTES, LEAST_ROWS, FastFlow, bf16_is_faster
from poco.learner.networks import Architecture, FlowPolicy
from poco.learner.windows import Batch
from poco.specification import Specification


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def flow(specification: Specification, hidden_sizes: tuple[int, ...] = (48, 512, 40)) -> FlowPolicy:
    torch.manual_seed(1)
    return FlowPolicy(Architecture.of(specification, hidden_sizes))


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize("blocks", [0.01, 1.0, 2.4])
def test_sample_is_that_of_the_plain_policy(
    specification: Specification, precision: torch.dtype, tolerance: float, blocks: float
) -> None:
    """Whole blocks and parts of one: the chunks differ by rounding only, noise and context stay as they were."""
    policy = flow(specification).to(precision)
    rows = int(blocks * BLOCK_BYTES / (512 * precision.itemsize))
    context = policy.encode(torch.randn(rows, 6, dtype=precision)).detach()
    noise = 2.0 * torch.randn(rows, 5, 4, dtype=precision)
    before = context.clone(), noise.clone()
    chunks = FastFlow(policy, bf16=False).sample(context, noise)
    torch.testing.assert_close(chunks, policy.sample(context, noise).detach(), rtol=0.0, atol=tolerance)
    assert torch.equal(context, before[0])
    assert torch.equal(noise, before[1])
    assert not chunks.requires_grad


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("rows", [70, 128])
def test_loss_is_that_of_the_plain_policy(
    specification: Specification, precision: torch.dtype, tolerance: float, rows: int
) -> None:
    """So are its gradients in context and weights, whether oneDNN takes the products or not."""
    policy = flow(specification).to(precision)
    context = policy.encode(torch.randn(rows, 6, dtype=precision)).detach().requires_grad_()
    chunk, noise = torch.randn(2, rows, 5, 4, dtype=precision)
    time, valid = torch.rand(rows, dtype=precision), (torch.rand(rows, 5) < 0.7).to(precision)
    layers = [one for name, one in policy.named_parameters() if not name.startswith("observation_layer")]
    found, expected = (one.loss(context, chunk, noise, time, valid) for one in (FastFlow(policy), policy))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    gradients = (torch.autograd.grad(one.mean(), [context, *layers]) for one in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_bf16_moves_candidates_a_little_and_small_batches_not_at_all(specification: Specification) -> None:
    """Mean distance below 1e-3 of a range of 2, whatever the number of rows; few rows are drawn in float32."""
    policy = flow(specification)
    for rows in (LEAST_ROWS - 1, LEAST_ROWS, 3000):
        context, noise = policy.encode(torch.randn(rows, 6)).detach(), torch.randn(rows, 5, 4)
        distance = (FastFlow(policy, bf16=True).sample(context, noise) - policy.sample(context, noise)).abs()
        assert float(distance.mean()) < 1e-3
        assert (float(distance.max()) > 1e-5) == (rows >= LEAST_ROWS)


def test_bf16_leaves_weights_and_losses_to_full_precision(specification: Specification) -> None:
    """Values, weights and candidate losses are those of the chunks drawn, to the last bit of float32 arithmetic."""
    rows = LEAST_ROWS // SMALL.candidates
    observation = torch.randn(rows, 6)
    nothing = torch.zeros(rows)
    batch = Batch(
        observation=observation,
        chunk=torch.zeros(rows, 5, 4),
        valid=torch.ones(rows, 5),
        actions=torch.zeros(rows, 4, 4),
        known=torch.ones(rows, 4),
        rewards=torch.zeros(rows, 3),
        following=observation,
        complete=nothing,
        last=nothing,
        terminated=nothing,
        success=nothing,
        step=nothing,
    )
    policy, critic = flow(specification), ChunkCritic(critic_architecture(specification, SMALL))
    fast, plain = (
        Agent(one, critic, SMALL, specification) for one in (FastFlow(policy, bf16=True), FastFlow(policy, bf16=False))
    )
    context = policy.encode(observation)
    posterior = e_step(fast, context, batch, torch.Generator().manual_seed(3))
    other = e_step(plain, context, batch, torch.Generator().manual_seed(3))
    assert 0.0 < float((posterior.chunks - other.chunks).abs().max()) < 0.02
    read = torch.cat((batch.actions[:, None, :1].expand(-1, 4, -1, -1), posterior.chunks[:, :, :3]), dim=2)
    values = critic.values(observation, read, "mean").detach()
    torch.testing.assert_close(posterior.values, values)
    torch.testing.assert_close(posterior.weights, torch.softmax(values / SMALL.eta, -1))
    losses = [m_step(one, context, posterior, torch.Generator().manual_seed(4))[0] for one in (fast, plain)]
    assert torch.equal(*losses)


def test_bf16_is_measured_only_where_it_could_help(specification: Specification) -> None:
    """Few candidates: no, without a measurement; many: a measured answer of either kind that leaves the generator alone."""
    architecture = Architecture.of(specification, (32,))
    assert not bf16_is_faster(architecture, LEAST_ROWS - 1)
    before = torch.get_rng_state()
    assert bf16_is_faster(msgspec.structs.replace(architecture, euler_steps=2), LEAST_ROWS) in (True, False)
    assert torch.equal(before, torch.get_rng_state())
