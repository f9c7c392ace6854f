"""HMC: what it leaves invariant, and the step size that is found for each row."""

import torch
from torch import Tensor

from ppl_vae.evidence.hmc import TARGET, point_at, transition, tuned

MEAN = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]]).double()
FACTOR = torch.tensor([[[1.0, 0, 0], [0.8, 0.5, 0], [-0.3, 0.2, 0.3]], [[3.0, 0, 0], [0, 0.1, 0], [0, 0, 1]]]).double()


def gaussian(u: Tensor) -> tuple[Tensor, Tensor]:
    """Two rows, N(m_b, L_b L_bᵀ), whose logarithm is the sum of two terms."""
    v = torch.linalg.solve_triangular(FACTOR, (u - MEAN).unsqueeze(-1), upper=False).squeeze(-1)
    return -v[..., :1].square().sum(-1) / 2, -v[..., 1:].square().sum(-1) / 2


def exact(chains: int) -> Tensor:
    return MEAN + (FACTOR @ torch.randn(chains, 2, 3, 1).double()).squeeze(-1)


def test_a_correlated_gaussian_is_left_invariant() -> None:
    """Chains that start at the exact density have its mean and second moments after transitions that accept half."""
    chains = 20_000
    point = point_at(gaussian, exact(chains))
    start = point.u
    step = torch.tensor([0.35, 0.15]).double()
    accepted = torch.zeros(2)
    for _ in range(5):
        point, moved, _ = transition(gaussian, point, step, 3, powers=(1.0, 1.0))
        accepted += moved.float().mean(0) / 5
    assert ((accepted > 0.3) & (accepted < 0.95)).all()  # so the correction by rejecting is at work
    assert (point.u != start).any(-1).double().mean() > 0.9
    off = point.u - MEAN
    covariance = FACTOR @ FACTOR.mT
    for value, truth in ((off, torch.zeros_like(MEAN)), (off.unsqueeze(-1) * off.unsqueeze(-2), covariance)):
        se = value.std(0) / chains**0.5
        assert ((value.mean(0) - truth).abs() < 4.5 * se).all()


def test_it_finds_the_density_from_elsewhere() -> None:
    """With scales and tuned steps, from a start that is far away; each row has its own step size."""
    scale = (FACTOR @ FACTOR.mT).diagonal(dim1=-2, dim2=-1).sqrt()
    point = point_at(gaussian, torch.full((500, 2, 3), 4.0).double())
    step, point = tuned(gaussian, point, 4, scale=scale, powers=(1.0, 1.0), transitions=80)
    probabilities = []
    for _ in range(40):
        point, _, probability = transition(gaussian, point, step, 4, scale=scale, powers=(1.0, 1.0))
        probabilities.append(probability)
    assert (torch.stack(probabilities).mean((0, 1)) - TARGET).abs().max() < 0.08
    assert step[0] < 0.8 * step[1]
    assert ((point.u.mean(0) - MEAN).abs() < 4.5 * scale / 500**0.5).all()


def test_a_trajectory_that_leaves_the_finite_numbers_is_rejected() -> None:
    def density(u: Tensor) -> tuple[Tensor]:
        return (torch.where(u[..., 0] > 1, torch.nan, -u.square().sum(-1) / 2),)

    point = point_at(density, torch.zeros(2000, 1, 1).double())
    for _ in range(10):
        point, _, _ = transition(density, point, torch.tensor([0.8]).double(), 2)
    assert point.u.max() <= 1
    assert point.u.min() < -2
    far = transition(density, point, torch.tensor([1e200]).double(), 5)
    assert not far.accepted.any()
    assert torch.equal(far.point.u, point.u)


def test_a_term_of_power_zero_is_left_out() -> None:
    def density(u: Tensor) -> tuple[Tensor, Tensor]:
        return -u.square().sum(-1) / 2, torch.full_like(u[..., 0], -torch.inf)

    point = point_at(density, torch.zeros(4, 1, 1).double())
    assert transition(density, point, torch.tensor([0.1]).double(), 1, powers=(1.0, 0.0)).accepted.all()
    assert not transition(density, point, torch.tensor([0.1]).double(), 1, powers=(1.0, 1.0)).accepted.any()
