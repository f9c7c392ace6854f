"""Quadrature against exact answers, and against finer grids of its own."""

import math
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.core.errors import InputError
from ppl_vae.distributions import SphericalUniform
from ppl_vae.evidence import boxes
from ppl_vae.evidence.log_px import log_px
from ppl_vae.evidence.quadrature import Integral, quadrature
from ppl_vae.models import linear_gaussian


def guide_of(D: int, loc: float = 0.0, scale: float = 1.0) -> Any:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x.new_full((D,), loc), scale).to_event(1))

    return guide


@pytest.mark.parametrize("D", [1, 2, 3])
@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (3.0, 0.1)])
def test_it_is_exact_for_the_linear_gaussian_whatever_the_guide(D: int, loc: float, scale: float) -> None:
    model = linear_gaussian.Model((6,), D).double()
    model.log_sigma.data.fill_(math.log(0.3))
    x = 2 * torch.randn(4, 6).double()
    found = quadrature(model, guide_of(D, loc, scale), x)
    assert (found.log_px - model.log_px(x)).abs().max() < 1e-8
    assert found.error.max() < 1e-6


class Curved(nn.Module):
    """x ~ N(f(z), 0.1²) with a bend: posteriors with two modes and like bananas."""

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            mean = torch.stack([z[..., 0] ** 2, z[..., 1] + z[..., 0] ** 2 / 2, (2 * z[..., 1]).sin()], -1)
            pyro.sample("x", dist.Normal(mean, 0.2).to_event(1), obs=x)


def test_two_modes_and_bends() -> None:
    x = torch.tensor([[1.0, 0.5, 0.1], [0.0, 0.0, 0.0], [2.0, 0.0, -0.8]]).double()
    found = quadrature(Curved(), guide_of(2), x)
    line = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    z = torch.cartesian_prod(line, line)
    for i in range(len(x)):
        mean = torch.stack([z[:, 0] ** 2, z[:, 1] + z[:, 0] ** 2 / 2, (2 * z[:, 1]).sin()], -1)
        log_p = dist.Normal(mean, 0.2).log_prob(x[i]).sum(-1) + dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
        truth = log_p.logsumexp(0) + 2 * math.log(0.005)
        assert (found.log_px[i] - truth).abs() <= found.error[i] + 1e-8
    assert found.error.max() < 1e-4  # also of two narrow ones far apart: each has its grid


def test_a_mode_that_the_grid_misses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the mass is taken from the grid: the draws have seen it."""
    monkeypatch.setattr(boxes, "_value", lambda *args, _value=boxes._value: _value(*args) - math.log(2))
    found = quadrature(Curved(), guide_of(2), torch.tensor([[0.0, 0.0, 0.0]]).double())
    assert found.log_px[0] == pytest.approx(-1.37654 - math.log(2), abs=1e-3)
    assert found.error[0] == math.inf


def wave(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(2 * (1.5 * z[..., 0]).sin(), 0.2), obs=x)


def test_a_far_mode_of_little_mass_is_not_lost() -> None:
    """z near −3.14 has 1.4 % of the mass, and lies beyond the grid of the mode near 1.05."""
    x = torch.tensor([2.0, 3.0]).double()
    z = torch.linspace(-14, 14, 500_001, dtype=torch.float64)[:, None]
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(2 * (1.5 * z).sin(), 0.2).log_prob(x)
    truth = log_p.logsumexp(0) + math.log(28 / 500_000)
    assert truth.tolist() == pytest.approx([-1.18986, -14.71764], abs=1e-5)
    found = log_px(wave, guide_of(1, -3.0, 2.0), x)
    assert found.counts == {"quadrature": 2}
    assert found.reliable.all()
    assert ((found.value - truth).abs() <= found.se + 1e-8).all()


class Given(dist.TorchDistribution):  # type: ignore[misc]
    """A density of x that is given as a number."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = dist.constraints.real

    def __init__(self, log_density: Tensor) -> None:
        self.log_density = log_density
        super().__init__(log_density.shape, validate_args=False)

    def expand(self, shape: Any, _instance: Any = None) -> "Given":
        return Given(self.log_density.expand(shape))

    def sample(self, shape: Any = ()) -> Tensor:
        return self.log_density.new_zeros(*shape, *self.batch_shape)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_density + 0 * x


def two_modes(weight: Any, distance: Any, sd: Any, share: Any, seed: int, D: int) -> Any:
    """p(z, x) = Σ_k w_k N(z; μ_k, Σ_k) of N data x = 0, 1, …, so that log p(x) = 0. All arguments of size N, sd (N, 2).

    Args:
        share: where the origin is on the way from the first mode to the second.
    """
    rng = torch.Generator().manual_seed(seed)
    weight, distance, sd, share = (torch.as_tensor(x).double() for x in (weight, distance, sd, share))
    N = len(weight)
    way = nn.functional.normalize(torch.randn(N, D, generator=rng).double(), dim=-1) * distance[:, None]
    means = torch.stack([-share[:, None] * way, (1 - share[:, None]) * way], 1)
    axes = torch.linalg.qr(torch.randn(N, 2, D, D, generator=rng).double())[0]
    axes = axes * sd[..., None, None] * torch.linspace(1, 0.5, D).double()
    covariances = axes @ axes.mT
    log_weight = torch.stack([1 - weight, weight], -1).log()

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            prior = dist.Normal(x.new_zeros(D), 1.0).to_event(1)
            z = pyro.sample("z", prior)
            i = x.long()
            modes = dist.MultivariateNormal(means[i], covariances[i]).log_prob(z.unsqueeze(-2))
            pyro.sample("x", Given((modes + log_weight[i]).logsumexp(-1) - prior.log_prob(z)), obs=x)

    return model


def right(found: Integral) -> Tensor:
    """Where log p(x) = 0."""
    return found.log_px.abs() <= 3 * found.error + 1e-6


@pytest.mark.parametrize("guide", [(0.0, 1.0), (-1.0, 2.0), (3.0, 0.1)])
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("sd", [0.05, 0.4])
def test_two_modes_of_any_weight_and_distance(D: int, sd: float, guide: Any) -> None:
    weight, distance, share = zip(*product([1e-4, 1e-2, 0.5], [2, 4, 8], [0, 0.5]), strict=True)
    model = two_modes(weight, distance, torch.full((18, 2), sd), share, 0, D)
    found = quadrature(model, guide_of(D, *guide), torch.arange(18.0).double())
    assert (found.error < 1e-3).all()
    assert right(found).all()


@pytest.mark.parametrize("D", [1, 2])
def test_no_row_that_claims_to_be_right_is_wrong(D: int) -> None:
    """Modes of different widths, up to one in four, at random: also a narrow one at the edge of a wide one."""
    rng = np.random.default_rng(D)
    N = 60
    sd = np.exp(rng.uniform(math.log(0.05), math.log(0.2), N))[:, None] * 4 ** rng.uniform(0, 1, (N, 2))
    model = two_modes(10 ** rng.uniform(-4, -0.3, N), rng.uniform(2, 8, N), sd, rng.uniform(0, 1, N), D, D)
    found = quadrature(model, guide_of(D), torch.arange(float(N)).double())
    claimed = found.error < 1e-3
    assert right(found)[claimed].all()
    assert claimed.double().mean() > 0.95


def test_a_narrow_mode_within_a_wide_one_is_seen_or_told() -> None:
    """In one dimension the grid gets as fine as it needs; in two it can't, and the row says so."""
    args = ([0.1], [2.0], [[1.0, 0.01]], [0.5])
    found = quadrature(two_modes(*args, 0, 1), guide_of(1, 1.0, 0.1), torch.zeros(1).double())
    assert right(found).all()
    assert found.error.max() < 1e-4
    found = quadrature(two_modes(*args, 0, 2), guide_of(2, 0.0, 0.5), torch.zeros(1).double())
    assert found.error.min() > 1e-3
    assert right(found).all()


@pytest.mark.parametrize("support", ["positive", "interval"])
def test_latents_of_other_supports(support: str) -> None:
    """Against a fine grid in the latent's own coordinates."""
    priors = {
        "positive": dist.Gamma(torch.tensor(3.0).double(), 1.0).expand([1]).to_event(1),
        "interval": dist.Beta(torch.tensor(2.0).double(), 2.0).expand([1]).to_event(1),
    }

    def both(x: Tensor, observe: bool) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", priors[support])
            if observe:
                pyro.sample("x", dist.Normal(z[..., 0], 0.1), obs=x)

    x = torch.tensor([0.4, 0.7]).double()
    found = quadrature(lambda x: both(x, True), lambda x: both(x, False), x)
    t = (torch.arange(200_000).double() + 0.5) / 200_000
    z, log_p = {
        "positive": (20 * t, dist.Gamma(3.0, 1.0).log_prob(20 * t) + math.log(20)),
        "interval": (t, dist.Beta(2.0, 2.0).log_prob(t)),
    }[support]
    expected = (dist.Normal(z[:, None], 0.1).log_prob(x) + log_p[..., None]).logsumexp(0) - math.log(200_000)
    torch.testing.assert_close(found.log_px, expected, atol=1e-5, rtol=0)


def test_a_sphere_is_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", SphericalUniform(x.new_zeros(2)))
            pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", SphericalUniform(x.new_zeros(2)))

    with pytest.raises(InputError, match="'z' is on a sphere"):
        quadrature(model, guide, torch.zeros(2))


def test_more_than_three_dimensions_are_refused() -> None:
    model = linear_gaussian.Model((6,), 4)
    with pytest.raises(InputError, match="z has 4 dimensions: quadrature is for 3 at most"):
        quadrature(model, guide_of(4), torch.zeros(2, 6))
