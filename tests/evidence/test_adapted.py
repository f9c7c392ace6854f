"""A proposal that is fitted to each row's posterior: log p(x) and moments against exact ones, under a bad guide."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.gaussian_table import COVARIANCE, SIGMA, D, W, gaussian_rows, linear_table
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.adapted import adapted
from ppl_vae.evidence.importance import importance, summary


def test_it_gives_the_gaussians_evidence_and_posterior_where_the_guide_does_not() -> None:
    x = gaussian_rows(20)
    pair = linear_table(width=0.4, gain=0.1, shift=1.5)
    assert importance(pair.model, pair.guide, x, 4000).reliable.double().mean() < 0.1
    values, log_w = adapted(pair.model, pair.guide, x, 4000)
    found = summary(log_w)
    assert found.reliable.all()
    exact = dist.MultivariateNormal(torch.zeros(D).double(), COVARIANCE).log_prob(x)
    z = (found.log_px - exact) / found.se
    assert z.abs().max() < 4.5
    precision = torch.eye(2, dtype=torch.float64) + W @ W.T / SIGMA**2
    mean = torch.linalg.solve(precision, W @ x.T / SIGMA**2).T
    sd = torch.linalg.inv(precision).diagonal().sqrt()
    got = torch.einsum("kb,kbd->bd", log_w.softmax(0), values["z"])
    assert ((got - mean).abs() < 5 * sd / found.ess.unsqueeze(-1).sqrt()).all()


def test_a_positive_latent_and_two_sites() -> None:
    """p(x) by quadrature over both; the coordinates of a positive latent are logarithms."""
    x = torch.tensor([[0.3], [4.0]]).double()

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            scale = pyro.sample("scale", dist.Gamma(x.new_tensor(2.0), x.new_tensor(1.0)))
            z = pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))
            pyro.sample("x", dist.Normal((scale * z).unsqueeze(-1), 0.5).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("scale", dist.LogNormal(x.new_tensor(-1.0), 0.5))
            pyro.sample("z", dist.Normal(x.new_tensor(1.5), 0.5))

    values, log_w = adapted(model, guide, x, 20_000)
    found = summary(log_w)
    assert set(values) == {"scale", "z"}
    s, z = torch.linspace(1e-4, 20, 4001).double(), torch.linspace(-6, 6, 801).double()
    prior = dist.Gamma(2.0, 1.0).log_prob(s).unsqueeze(-1) + dist.Normal(0.0, 1.0).log_prob(z)
    area = math.log((s[1] - s[0]) * (z[1] - z[0]))
    exact = torch.stack(
        [(prior + dist.Normal(s.unsqueeze(-1) * z, 0.5).log_prob(v)).logsumexp((0, 1)) for v in x[:, 0]]
    )
    assert ((found.log_px - exact - area).abs() < 5 * found.se + 1e-3)[found.reliable].all()
    assert found.reliable.any()


def test_discrete_latents_are_refused() -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Categorical(torch.ones(3)))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([2]).to_event(1), obs=x)

    with pytest.raises(InputError, match="no coordinates"):
        adapted(model, guide, torch.zeros(3, 2), 10)
