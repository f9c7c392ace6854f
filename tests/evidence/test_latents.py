"""Coordinates of latents: the round trip, the log-determinant, and the prior's mass, for every support."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions import PowerSpherical, SphericalUniform
from ppl_vae.distributions.relaxed import ExpRelaxedCategorical
from ppl_vae.evidence.latents import Latents
from ppl_vae.programs import draw, terms
from ppl_vae.programs.scores import log_weight

B = 3
one = torch.tensor(1.0).double()
PRIORS: dict[str, tuple[Any, Any]] = {
    "real": (dist.Normal(torch.zeros(2).double(), 1.5).to_event(1), None),
    "positive": (dist.Gamma(2 * one, one).expand([2]).to_event(1), None),
    "interval": (dist.Beta(2 * one, 3 * one).expand([1]).to_event(1), None),
    "simplex": (dist.Dirichlet(torch.tensor([1.5, 2.0, 3.0]).double()), None),
    "sphere": (
        SphericalUniform(torch.zeros(2).double()),
        PowerSpherical(torch.tensor([0.6, 0.8], dtype=torch.float64), one / 4),
    ),
    "log simplex": (ExpRelaxedCategorical(one / 2, logits=torch.tensor([0.1, 0.5, -0.3]).double()), None),
    "plate": (dist.LogNormal(0 * one, one), None),
}


def pair(name: str) -> tuple[Any, Any]:
    prior, q = PRIORS[name]

    def draw_z(fn: Any) -> Any:
        if name == "plate":
            with pyro.plate("inside", 2, dim=-2):
                return pyro.sample("z", fn)
        return pyro.sample("z", fn)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-1):
            z = draw_z(prior)
            z = (z.sum(-2, keepdim=True) if z.dim() > 2 else z.sum(-2)) if name == "plate" else z[..., 0]
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-1):
            draw_z(q or prior)

    return model, guide


@pytest.mark.parametrize("name", PRIORS)
def test_the_weight_is_the_same_in_both_coordinates(name: str) -> None:
    model, guide = pair(name)
    x = torch.randn(B).double()
    latents = Latents(model, guide, x)
    t = terms(model, guide, x, 5)
    u = latents.coordinates(t.values)
    assert u.shape == (5, B, latents.size)
    log_p, log_q = latents.log_both(u)
    torch.testing.assert_close(log_p - log_q, log_weight(t))
    torch.testing.assert_close(latents.log_joint(u), log_p)
    values, _ = latents.values(u)
    torch.testing.assert_close(values["z"], t.values["z"])


@pytest.mark.parametrize("name", PRIORS)
def test_the_prior_has_mass_one_in_the_coordinates(name: str) -> None:
    """By a grid over u: with it the log-determinant is right."""
    model, guide = pair(name)
    latents = Latents(model, guide, torch.zeros(1).double())
    line = torch.linspace(-28, 28, 2801).double()
    grid = torch.cartesian_prod(*[line] * latents.size).reshape(-1, 1, latents.size)
    mass = torch.cat([latents.log_parts(part)[0] for part in grid.split(100_000)]).exp().sum()
    assert mass * 0.02**latents.size == pytest.approx(1, abs=1e-3 if name != "plate" else 2e-3)


@pytest.mark.parametrize("name", PRIORS)
def test_draws_of_the_prior(name: str) -> None:
    """E_p(u) of p(x|u) by draws is the p(x) of draws of the guide, weighted."""
    model, guide = pair(name)
    latents = Latents(model, guide, torch.tensor([0.3, -0.4, 1.0]).double())
    by_prior = latents.log_parts(latents.draw_p(20_000))[1].exp()
    log_p, log_q = latents.log_both(latents.draw_q(20_000))
    by_guide = (log_p - log_q).exp()
    se = (by_prior.var(0) / 20_000 + by_guide.var(0) / 20_000).sqrt()
    assert ((by_prior.mean(0) - by_guide.mean(0)).abs() < 4.5 * se + 1e-12).all()


def test_a_gradient_is_the_rows_own() -> None:
    model, guide = pair("positive")
    x = torch.randn(B).double()
    latents = Latents(model, guide, x)
    u = latents.coordinates(draw(guide, x, 4))
    u = u.detach().requires_grad_()
    value = latents.log_joint(u)
    (slope,) = torch.autograd.grad(value.sum(), u)
    u = u.detach()
    step = torch.zeros_like(u)
    step[1, 2, 0] = 1e-6
    moved = (latents.log_joint(u + step) - latents.log_joint(u - step)) / 2e-6
    assert moved[1, 2] == pytest.approx(slope[1, 2, 0].item(), rel=1e-6)
    assert moved.count_nonzero() == 1
    assert value.shape == (4, B)


def test_what_has_no_coordinates_is_refused() -> None:
    def discrete(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Poisson(x.new_tensor(3.0)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Poisson(x.new_tensor(3.0)))

    with pytest.raises(InputError, match="'z': Poisson has no coordinates"):
        Latents(discrete, guide, torch.zeros(2))
