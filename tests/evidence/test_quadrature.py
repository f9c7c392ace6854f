"""Quadrature against exact answers, and against finer grids of its own."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.core.errors import InputError
from ppl_vae.distributions import SphericalUniform
from ppl_vae.evidence import quadrature as module
from ppl_vae.evidence.quadrature import quadrature
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
    assert found.error[1] < 1e-6  # one mode
    assert found.error.max() < 0.1  # two narrow ones far apart: the error says so


def test_a_mode_that_the_grid_misses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the mass is taken from the grid: the draws have seen it."""
    monkeypatch.setattr(module, "_value", lambda *args, _value=module._value: _value(*args) - math.log(2))
    found = quadrature(Curved(), guide_of(2), torch.tensor([[0.0, 0.0, 0.0]]).double())
    assert found.log_px[0] == pytest.approx(-1.37654 - math.log(2), abs=1e-3)
    assert found.error[0] == math.inf


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
