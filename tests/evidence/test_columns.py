"""log p of each column given the others: against a Gaussian's conditionals, and a table's by quadrature."""

import math
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from support.gaussian_table import COVARIANCE, SIGMA, D, W
from support.gaussian_table import gaussian_rows as rows
from torch import Tensor, nn

from ppl_vae.blocks import AutoregressiveBernoulli, MixedTable, autoregressive_network
from ppl_vae.core.errors import InputError
from ppl_vae.evidence.columns import Columns, columns
from ppl_vae.evidence.factors import factorized


def gaussian(width: float = 1.3, shift: float = 0.2) -> SimpleNamespace:
    """x = zW + noise, and the posterior made wider and shifted, in units of its standard deviations."""
    precision = torch.eye(2, dtype=torch.float64) + W @ W.T / SIGMA**2
    L = torch.linalg.cholesky(torch.linalg.inv(precision))

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ W, SIGMA).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        mean = torch.linalg.solve(precision, W @ x.T / SIGMA**2).T + shift * L.sum(1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.MultivariateNormal(mean, scale_tril=width * L))

    return SimpleNamespace(model=model, guide=guide)


def exact(x: Tensor) -> np.ndarray:
    """The conditionals of N(0, Σ) from its precision Λ: x_j|x_-j ~ N(x_j − (Λx)_j/Λ_jj, 1/Λ_jj)."""
    precision = np.linalg.inv(COVARIANCE.numpy())
    off = x.numpy() @ precision / np.diag(precision)
    return -0.5 * off**2 * np.diag(precision) + 0.5 * np.log(np.diag(precision) / (2 * math.pi))


def test_columns_are_the_gaussians_conditionals() -> None:
    x, pair = rows(60), gaussian()
    got = columns(pair.model, pair.guide, x, 4000)
    assert got.reliable.double().mean() > 0.9
    z = ((got.log_prob - torch.as_tensor(exact(x))) / got.se)[got.reliable]
    assert z.abs().max() < 5
    assert abs(z.square().mean() - 1) < 6 * (2 / len(z)) ** 0.5, "cells of a row share their draws"
    assert got.shape == (D,)


def test_the_shape_of_the_programs_does_not_matter() -> None:
    """Inner plates, masks and distributions that are expanded give the same, as do programs that repeat their rows."""
    x = rows(4)
    pair = gaussian()

    def plated(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-2):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1, 2), 1.0).to_event(1))
            with pyro.plate("columns", D, dim=-1):
                pyro.sample("x", dist.Normal((z @ W).squeeze(-2) if z.dim() < 3 else (z @ W)[..., 0, :], SIGMA), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-2):
            pyro.sample("z", dist.Normal((x @ W.T * 0.4).unsqueeze(-2), 0.7).to_event(1))

    def masked(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            seen = ~x.isnan()
            pyro.sample("x", dist.Normal(z @ W, SIGMA).mask(seen).to_event(1), obs=x.nan_to_num())

    class Repeated(nn.Module):
        vectorized = False

        def forward(self, x: Tensor) -> None:
            pair.model(x)

    truth = torch.as_tensor(exact(x))
    for model, q in ((plated, guide), (masked, pair.guide), (Repeated(), pair.guide)):
        got = columns(model, q, x, 20_000)
        assert ((got.log_prob - truth).abs() < 5 * got.se + 1e-9)[got.reliable].all()
        assert got.reliable.any()


def test_a_cell_that_moves_the_posterior_far_is_estimated_anew() -> None:
    x, pair = rows(40), gaussian()
    x[:, 1] += 6.0
    first = columns(pair.model, pair.guide, x, 2000, most_anew=0)
    both = columns(pair.model, pair.guide, x, 2000)
    doubtful = ~first.reliable[:, 1]
    assert doubtful.double().mean() > 0.5, "else there is nothing to do"
    assert both.reliable[:, 1].double().mean() > 0.9
    z = ((both.log_prob - torch.as_tensor(exact(x))) / both.se)[both.reliable]
    assert z.abs().max() < 5


def test_a_row_whose_weights_are_bad_gets_draws_of_its_own() -> None:
    x, pair = rows(30), gaussian(width=0.5, shift=0.7)
    got = columns(pair.model, pair.guide, x, 4000, most_anew=0)
    assert got.reliable.double().mean() > 0.9
    z = ((got.log_prob - torch.as_tensor(exact(x))) / got.se)[got.reliable]
    assert z.abs().max() < 5
    assert abs(z.square().mean() - 1) < 8 * (2 / len(z)) ** 0.5


def test_log_px_that_is_known_better_takes_the_place_of_the_weights() -> None:
    """With it the cells of a row whose own weights are bad are had from q(z|x') alone."""
    far, pair = rows(10), gaussian()
    far[:, 0] += 8.0

    def guide(y: Tensor) -> None:
        pair.guide(torch.where(y[:, :1].abs() > 4, y.flip(1), y))  # bad for the rows that are far

    truth = dist.MultivariateNormal(torch.zeros(D).double(), COVARIANCE).log_prob(far)
    known = SimpleNamespace(value=truth, se=torch.zeros(10), reliable=torch.ones(10, dtype=torch.bool))
    got = columns(pair.model, guide, far, 4000, known=known)  # type: ignore[arg-type]
    found = got.reliable[:, 0]
    assert found.double().mean() > 0.5
    z = (got.log_prob - torch.as_tensor(exact(far)))[:, 0] / got.se[:, 0]
    assert z[found].abs().max() < 5


# ---- tables


def table() -> tuple[SimpleNamespace, Tensor]:
    """A real, a binary and a categorical column that depend on one number z."""
    p_x = MixedTable((3,), "real,binary,categorical:3", torch.zeros(4, 3)).double()
    with torch.no_grad():
        p_x.parts[0].log_scale.fill_(math.log(SIGMA - p_x.parts[0].floor))
    slope = torch.tensor([1.2, -2.0, 0.0, 1.5, -1.0]).double()

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", p_x(z * slope), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x[:, :1].nan_to_num() * 0.4, 1.1).to_event(1))

    return SimpleNamespace(model=model, guide=guide), slope


def by_quadrature(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """log p(x_j|x_-j) of each cell by a sum over z: p(x) by p(x_-j); NaN where the cell is missing."""
    z = np.linspace(-9, 9, 20_001)
    prior = np.exp(-(z**2) / 2)
    logits = np.exp(np.outer(z, slope[2:]))
    softmax = logits / logits.sum(1, keepdims=True)
    found = np.full(x.shape, np.nan)
    for i, row in enumerate(x):
        one = 1 / (1 + np.exp(-z * slope[1]))
        densities = [
            np.exp(-((row[0] - z * slope[0]) ** 2) / (2 * SIGMA**2)) / (SIGMA * math.sqrt(2 * math.pi)),
            one if row[1] == 1 else 1 - one,
            softmax[:, int(np.nan_to_num(row[2]))],
        ]
        there = [j for j in range(3) if not np.isnan(row[j])]
        joint = prior * np.prod([densities[j] for j in there], axis=0)
        for j in there:
            others = prior * np.prod([densities[i] for i in there if i != j] or [np.ones_like(z)], axis=0)
            found[i, j] = math.log(joint.sum() / others.sum())
    return found


def table_rows() -> Tensor:
    x = torch.stack([torch.randn(30) * 1.5, (torch.rand(30) < 0.5) * 1.0, torch.randint(3, (30,)) * 1.0], 1).double()
    x[torch.rand(x.shape) < 0.2] = math.nan
    return x


def test_columns_of_a_table_are_those_of_quadrature() -> None:
    pair, slope = table()
    x = table_rows()
    got = columns(pair.model, pair.guide, x, 20_000)
    truth = torch.as_tensor(by_quadrature(x.numpy(), slope.numpy()))
    torch.testing.assert_close(got.log_prob.isnan(), truth.isnan())
    assert got.reliable[~x.isnan()].double().mean() > 0.9
    assert not got.reliable[x.isnan()].any()
    z = ((got.log_prob - truth) / got.se)[got.reliable]
    assert z.abs().max() < 5
    assert abs(z.square().mean() - 1) < 8 * (2 / len(z)) ** 0.5


def test_batches_and_the_number_of_draws_at_a_time_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, _ = table()
    x = table_rows()

    def found() -> Columns:
        torch.manual_seed(0)
        return columns(pair.model, pair.guide, x, 500, most_anew=0)

    whole = found()
    monkeypatch.setattr("ppl_vae.evidence.columns.CHUNK", 500 * 3 * 7)
    parts = found()
    both = whole.reliable & parts.reliable
    z = (whole.log_prob - parts.log_prob)[both] / (whole.se.square() + parts.se.square()).sqrt()[both]
    assert z.abs().max() < 5
    assert parts.log_prob.shape == whole.log_prob.shape


# ---- what is refused


def test_a_likelihood_that_is_no_product_over_columns_is_refused() -> None:
    x = (torch.rand(6, 4) < 0.5).float()
    network = autoregressive_network((4,), 2, 8)

    def prior(x: Tensor) -> Tensor:
        return pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x[:, :2], 1.0).to_event(1))

    def shipped(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", AutoregressiveBernoulli(network, prior(x), (4,)), obs=x)

    def disguised(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = prior(x)
            logits = z.sum(-1, keepdim=True) + x.cumsum(-1) - x
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def correlated(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            prior(x)
            pyro.sample("x", dist.MultivariateNormal(x.new_zeros(4), torch.eye(4)), obs=x)

    def two(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            prior(x)
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([4]).to_event(1), obs=x)
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=x[:, 0])

    def other(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            prior(x)
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([4]).to_event(1), obs=x * 2)

    for model, words in (
        (shipped, "says nothing of a single number"),
        (disguised, "reads x itself"),
        (correlated, "MultivariateNormal.* says nothing of a single number"),
        (two, "the model observes x, y"),
        (other, "does not observe the first field as it is"),
    ):
        with pytest.raises(InputError, match=words):
            columns(model, guide, x, 10)
    pair = gaussian()
    assert factorized(pair.model, pair.guide, (rows(1),)) == "x", "one row is enough"
