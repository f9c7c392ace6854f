"""The peaks of a function on a grid."""

import math

import pyro.distributions as dist
import pytest
import torch

from ppl_vae.evidence.peaks import peaks


@pytest.mark.parametrize("D", [1, 2, 3])
@pytest.mark.parametrize("scale", [0.02, 1.0])
def test_those_of_normals_are_exact_however_narrow(D: int, scale: float) -> None:
    """The spacing is 0.5, so that a normal of 0.02 has no point of the grid within its mass."""
    line = torch.arange(-12, 13).double() / 2
    v = torch.cartesian_prod(*[line] * D).reshape(-1, D)
    A = scale * torch.linalg.cholesky(torch.eye(D).double() * 0.6 + 0.4)
    means = torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.21, -0.07]]).double()[:, :D]
    found = peaks(
        torch.stack([dist.MultivariateNormal(m, scale_tril=A).log_prob(v) for m in means], -1) - 3.0, v, 0.5, 4
    )
    assert found.log_mass.shape == (4, 2)
    torch.testing.assert_close(found.m[0], means, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.L[0], A.expand(2, D, D), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.log_mass[0], torch.full((2,), -3.0).double(), atol=1e-6, rtol=0)
    assert (found.log_mass[1:] == -math.inf).all()


def test_two_are_two_and_what_has_no_top_has_none() -> None:
    v = torch.arange(-40, 41).double()[:, None] / 4
    two = torch.stack([dist.Normal(m, 0.3).log_prob(v[:, 0]) for m in (-4.0, 4.1)], -1)
    f = torch.stack([(two + torch.tensor([0.9, 0.1]).log()).logsumexp(-1), v[:, 0], torch.zeros(81)], -1)
    found = peaks(f, v, 0.25, 3)
    assert found.m[:2, 0, 0].tolist() == pytest.approx([-4.0, 4.1])
    assert found.log_mass[:2, 0].exp().tolist() == pytest.approx([0.9, 0.1])
    assert (found.log_mass[:, 1:] == -math.inf).all()
