"""Distributions on the sphere against quadrature on the circle and in three dimensions, and beyond by Monte Carlo."""

from collections.abc import Callable
from math import pi

import numpy as np
import pytest
import torch
from pyro.distributions import TorchDistribution, constraints
from scipy import stats
from torch import Tensor
from torch.nn.functional import normalize, softplus

from ppl_vae.blocks import PowerSpherical, SphericalUniform
from ppl_vae.core.errors import InputError
from ppl_vae.distributions.kl import kl

STANDARD_ERRORS = 4
DRAWS = 40_000
QUADRATURE = 1e-8


def power(raw: Tensor) -> PowerSpherical:
    """From unconstrained numbers `(..., d + 1)`."""
    return PowerSpherical(normalize(raw[..., 1:], dim=-1), 3 * softplus(raw[..., 0]))


def uniform(raw: Tensor) -> SphericalUniform:
    return SphericalUniform(raw.new_zeros(raw.shape[-1] - 1), raw.shape[:-1])


FAMILIES: dict[str, Callable[[Tensor], TorchDistribution]] = {"uniform": uniform, "power": power}
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
every_side = pytest.mark.parametrize("side", [-1, 1])


def raw_for(dim: int, *batch: int, side: int = 1) -> Tensor:
    """Unconstrained numbers; the first coordinate of μ has the sign of `side`."""
    raw = torch.randn(*batch, dim + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    raw[..., 1] = side * raw[..., 1].abs()
    return raw


def nodes(dim: int) -> tuple[Tensor, Tensor]:
    """Points of the circle or of the sphere in three dimensions, and their shares of its area."""
    angle = torch.arange(400, dtype=torch.float64) * (2 * pi / 400)
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
    if dim == 2:
        return circle, torch.full((400,), 2 * pi / 400, dtype=torch.float64)
    height, weight = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(200))
    radius = (1 - height**2).sqrt()
    z = torch.cat([height.expand(400, -1).unsqueeze(-1), circle.unsqueeze(1) * radius.unsqueeze(-1)], dim=-1)
    return z.flatten(0, 1), (weight * 2 * pi / 400).repeat(400)


def features(z: Tensor) -> Tensor:
    a, b = z[..., 0], z[..., 1]
    return torch.stack([a, b, a * b, a**2, (3 * a).sin(), (2 * a - 3 * b).cos()], dim=-1)


@every_family
@every_side
@pytest.mark.parametrize("dim", [2, 3])
def test_the_density_integrates_to_one(family: Callable[[Tensor], TorchDistribution], dim: int, side: int) -> None:
    z, weight = nodes(dim)
    total = weight @ family(raw_for(dim, side=side)).log_prob(z).exp()
    assert total.item() == pytest.approx(1, abs=QUADRATURE)


@pytest.mark.parametrize("dim", [5, 40])
def test_the_density_averages_to_that_of_the_uniform(dim: int) -> None:
    """E_u[q/u] = 1 at uniform draws, within standard errors, in dimensions without quadrature."""
    u = SphericalUniform(torch.zeros(dim, dtype=torch.float64))
    z = u.sample(torch.Size([DRAWS]))
    ratio = (power(raw_for(dim)).log_prob(z) - u.log_prob(z)).exp()
    assert (ratio.mean() - 1).abs() < STANDARD_ERRORS * ratio.std() / DRAWS**0.5


@every_family
@every_side
@pytest.mark.parametrize("dim", [2, 3])
def test_draws_have_the_density(family: Callable[[Tensor], TorchDistribution], dim: int, side: int) -> None:
    q, (z, weight) = family(raw_for(dim, 2, side=side)), nodes(dim)
    truth = torch.einsum("nb,nf->bf", weight.unsqueeze(-1) * q.log_prob(z.unsqueeze(1)).exp(), features(z))
    for draw in (q.sample, q.rsample):
        f = features(draw(torch.Size([DRAWS])))
        assert ((f.mean(0) - truth).abs() < STANDARD_ERRORS * f.std(0) / DRAWS**0.5).all()


def test_the_cosine_to_the_direction_is_a_beta_variable() -> None:
    q = power(raw_for(6))
    t = q.sample(torch.Size([5000])) @ q.loc
    κ = q.concentration.item()
    assert stats.kstest(((1 + t) / 2).numpy(), stats.beta(2.5 + κ, 2.5).cdf).pvalue > 1e-3


@every_side
@pytest.mark.parametrize("dim", [2, 3])
def test_pathwise_gradients_are_those_of_the_expectation(dim: int, side: int) -> None:
    raw, (z, weight) = raw_for(dim, side=side), nodes(dim)
    rows = raw.expand(DRAWS, -1).clone().requires_grad_()
    raw.requires_grad_()
    for f in range(features(z).shape[-1]):
        (truth,) = torch.autograd.grad(weight @ (power(raw).log_prob(z).exp() * features(z)[:, f]), raw)
        (each,) = torch.autograd.grad(features(power(rows).rsample())[:, f].sum(), rows)
        assert ((each.mean(0) - truth).abs() <= STANDARD_ERRORS * each.std(0) / DRAWS**0.5 + QUADRATURE).all()


@every_family
@pytest.mark.parametrize("dim", [2, 3])
def test_entropy_and_moments(family: Callable[[Tensor], TorchDistribution], dim: int) -> None:
    q, (z, weight) = family(raw_for(dim)), nodes(dim)
    density = weight * q.log_prob(z).exp()
    torch.testing.assert_close(q.entropy(), -density @ q.log_prob(z))
    torch.testing.assert_close(density @ z, q.mean)
    torch.testing.assert_close(density @ (z - q.mean).square(), q.variance)


@every_family
@pytest.mark.parametrize("dim", [2, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_are_on_the_sphere(family: Callable[[Tensor], TorchDistribution], dim: int, dtype: torch.dtype) -> None:
    """For every μ, also on the axes, and every κ: and so are gradients finite."""
    loc = torch.cat([torch.eye(dim), -torch.eye(dim), -torch.eye(dim) + 1e-4]).to(dtype)
    raw = torch.cat([torch.linspace(-30, 1e4, len(loc), dtype=dtype).unsqueeze(-1), loc], dim=-1).requires_grad_()
    q = family(raw)
    z = q.rsample(torch.Size([1000]))
    assert z.dtype == q.log_prob(z).dtype == q.entropy().dtype == dtype
    assert constraints.sphere.check(z).all()
    if z.requires_grad:
        (z.sum() + q.log_prob(z).sum() + q.entropy().sum()).backward()
        assert raw.grad is not None
        assert raw.grad.isfinite().all()


@pytest.mark.parametrize("κ", [1e-3, 1.0, 1e2, 1e4])
def test_float32_keeps_its_digits(κ: float) -> None:
    double = PowerSpherical(normalize(torch.ones(10, dtype=torch.float64), dim=0), torch.tensor(κ).double())
    single = PowerSpherical(double.loc.float(), double.concentration.float())
    z = double.sample(torch.Size([100]))
    torch.testing.assert_close(single.entropy().double(), double.entropy(), rtol=1e-6, atol=1e-5)
    atol = 1e-4 * κ**0.5  # z in float32 is off by 1e-7, where the slope is of order κ ‖z − μ‖ ~ √κ
    torch.testing.assert_close(single.log_prob(z.float()).double(), double.log_prob(z), rtol=1e-5, atol=atol)


def test_far_from_the_direction_the_density_and_its_gradient_are_finite() -> None:
    loc = normalize(torch.ones(3), dim=0).requires_grad_()
    q = PowerSpherical(loc, torch.tensor(5.0))
    log_q = q.log_prob(-loc.detach())
    log_q.backward()
    assert log_q < -100
    assert loc.grad is not None
    assert loc.grad.isfinite().all()


def test_at_no_concentration_it_is_uniform() -> None:
    raw = raw_for(7)
    q = PowerSpherical(normalize(raw[1:], dim=0), torch.tensor(1e-12, dtype=torch.float64))
    p = uniform(raw)
    z = p.sample(torch.Size([10]))
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z))
    assert kl(q, p).item() == pytest.approx(0, abs=1e-11)


def test_batches_expand() -> None:
    q = power(raw_for(4, 3))
    wide = q.expand(torch.Size([2, 3]))
    z = wide.sample(torch.Size([5]))
    assert z.shape == (5, 2, 3, 4)
    torch.testing.assert_close(wide.log_prob(z), q.log_prob(z))
    assert uniform(raw_for(4)).expand(torch.Size([2, 3])).sample().shape == (2, 3, 4)


def test_one_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 dimensions"):
        PowerSpherical(torch.ones(1), torch.ones(()))
