"""Importance sampling from fitted proposals against exact answers and grids."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.gridded import SMALL, by_grid
from support.oracles import two
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence import fitted as module
from ppl_vae.evidence.fitted import believed, fitted, proposal
from ppl_vae.evidence.importance import importance
from ppl_vae.evidence.latents import Latents
from ppl_vae.models import linear_gaussian


def narrow(loc: float = 0.0, D: int = 5) -> Any:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x.new_full((D,), loc), 0.2).to_event(1))

    return guide


def test_intervals_cover_the_exact_answer() -> None:
    """400 rows, of a guide that is the same for every row: 95 % intervals."""
    model = linear_gaussian.Model((6,), 5).double()
    x = 2 * torch.randn(400, 6).double()
    found = fitted(model, narrow(0.5), x, 500, batch_size=400)
    off = (found.log_px - model.log_px(x)) / found.se
    assert found.reliable.double().mean() > 0.97
    assert 0.9 <= (off.abs() < 1.96).double().mean() <= 0.985
    assert found.se.max() < 0.1


def test_the_proposal_is_the_posterior_of_a_linear_gaussian() -> None:
    model = linear_gaussian.Model((6,), 3).double()
    x = torch.randn(7, 6).double()
    t = proposal(Latents(model, narrow(0.3, 3), x))
    noise = (-2 * model.log_sigma).exp()
    precision = torch.eye(3).double() + noise * model.W.T @ model.W
    mean = torch.linalg.solve(precision, noise * (x - model.b) @ model.W, left=False)
    assert ((t.loc - mean).abs() < 0.05).all()
    assert ((t.scale_tril @ t.scale_tril.mT @ precision - torch.eye(3)).abs() < 0.15).all()


@pytest.mark.parametrize(
    ("name", "least"), [("nonlinear", 0.5), ("sphere", 0.5), ("positive", 0.8), ("two levels", None)]
)
def test_latents_of_every_kind(name: str, least: float | None) -> None:
    """Where it is reliable, it is the sum over a grid within its error. Many of these posteriors have two modes."""
    model, guide = SMALL[name]
    x = torch.randn(60, 3).double()
    found = believed(fitted(model, guide, x, 1000), importance(model, guide, x, 1000))
    truth = by_grid(model, guide, x)
    good = found.reliable
    assert good.double().mean() > least if least else not good.any()
    assert ((found.log_px - truth).abs() <= 4.5 * found.se + 1e-4)[good].all()


def test_two_levels_with_a_guide_that_is_far_too_wide() -> None:
    s = two(False)
    s.guide.u.data += 0.6
    found = fitted(s.model, s.guide, s.x, 1000)
    assert found.reliable.all()
    assert ((found.log_px - s.log_px(s.model, s.x)).abs() <= 4.5 * found.se).all()


def test_a_mode_that_it_misses_is_told_by_the_guide() -> None:
    """x = z² + noise: two modes, and the fitted proposal has one. The guide has both."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))
            pyro.sample("x", dist.Normal(z**2, 0.1), obs=x)

    def guide(x: Tensor) -> None:
        modes = dist.Normal(torch.stack([x.sqrt(), -x.sqrt()], -1), 0.05)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(x.new_ones(len(x), 2)), modes))

    x = torch.tensor([1.0, 1.5, 2.0]).double()
    by_guide = importance(model, guide, x, 2000)
    found = fitted(model, guide, x, 2000)
    missed = (by_guide.log_px - found.log_px).round(decimals=1) == 0.7  # log 2
    assert missed.any()
    assert found.reliable[missed].all()  # what its own weights say
    assert not believed(found, by_guide).reliable[missed].any()
    assert (believed(found, found).khat == found.khat).all()


def test_a_fit_that_is_not_finite_leaves_the_moments_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "climbed", lambda free, *args: [torch.full_like(free[0], torch.nan)])
    model = linear_gaussian.Model((6,), 5)
    t = proposal(Latents(model, narrow(0.5), torch.randn(3, 6)))
    assert ((t.loc - 0.5).abs() < 0.1).all()
    assert ((t.scale_tril.diagonal(dim1=-2, dim2=-1) / 0.2 - 1).abs() < 0.3).all()


def test_a_draw_without_a_density_has_no_weight() -> None:
    """Where the model's density is NaN, which a proposal may reach, w = 0."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))
            pyro.sample("x", dist.Exponential((z + 3).log()), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x.new_tensor(0.0), 0.3))

    found = fitted(model, guide, torch.tensor([0.5, 2.0]).double(), 4000)
    line = torch.linspace(-2, 12, 20001).double()[1:-1]
    log_p = dist.Normal(0.0, 1.0).log_prob(line) + (rate := (line + 3).log()).log()
    truth = (log_p - rate * torch.tensor([[0.5], [2.0]])).logsumexp(-1) + math.log(14 / 20000)
    assert ((found.log_px - truth).abs() < 4.5 * found.se).all()


def test_what_it_can_not_do_is_refused() -> None:
    model = linear_gaussian.Model((3,), 300)
    with pytest.raises(InputError, match="300 dimensions, and a proposal with any covariance is fitted to 256 at most"):
        fitted(model, narrow(0.0, 300), torch.randn(2, 3))
    with pytest.raises(InputError, match="num_samples"):
        fitted(model, narrow(0.0, 300), torch.randn(2, 3), 1)
