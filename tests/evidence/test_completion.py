"""Missing cells filled: against a Gaussian's conditionals and quadrature, by weights and by chains."""

import math
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from support.gaussian_table import D, gaussian_rows, given_the_others, linear_table
from torch import Tensor

from ppl_vae.blocks import MixedTable
from ppl_vae.core.errors import InputError
from ppl_vae.evidence.completion import METHODS, Completed, complete


def holes(count: int) -> tuple[Tensor, Tensor]:
    """Rows, and which of their cells are gone: none of the first row, all of the second."""
    x = gaussian_rows(count)
    gone = torch.rand(x.shape) < 0.4
    gone[0], gone[1], gone[2:, 0] = False, True, True
    return x, gone


def check_against_the_gaussian(x: Tensor, gone: Tensor, got: Completed, ess: float) -> None:
    """Mean, standard deviation and draws, each within 5 standard errors of an effective sample size."""
    M = len(got.draws)
    for i in range(len(x)):
        m = gone[i].nonzero().flatten()
        if not len(m):
            continue
        mean, S = map(torch.as_tensor, given_the_others(x[i], gone[i]))
        sd = S.diagonal().sqrt()
        assert ((got.mean[i, m] - mean).abs() < 5 * sd / ess**0.5).all()
        assert ((got.sd[i, m] / sd).log().abs() < 5 / (2 * ess) ** 0.5).all()
        torch.testing.assert_close(got.guess[i, m], got.mean[i, m])
        u = torch.linalg.solve_triangular(torch.linalg.cholesky(S), (got.draws[:, i, m] - mean).T, upper=False)
        assert (u.mean(1).abs() < 5 * (1 / M + 1 / ess) ** 0.5).all()
        assert ((u @ u.T / M - torch.eye(len(m))).abs() < 5 * (2 / M + 2 / ess) ** 0.5).all(), "jointly"


def test_cells_are_filled_as_the_gaussian_says() -> None:
    x, gone = holes(12)
    pair = linear_table()
    got = complete(pair.model, pair.guide, x.masked_fill(gone, math.nan), 2000, num_samples=20_000)
    assert got.reliable.all()
    assert [METHODS[code] for code in got.method[:3]] == ["nothing missing", "importance", "importance"]
    assert got.ess.isnan().tolist() == [True] + [False] * 11
    check_against_the_gaussian(x, gone, got, 2000)


def test_what_is_observed_is_never_changed() -> None:
    x, gone = holes(20)
    x[0, 0] = -0.0
    seen = x.masked_fill(gone, math.nan).float()
    pair = linear_table()
    got = complete(pair.model, pair.guide, seen.double(), 3, num_samples=20, transitions=10)
    assert {METHODS[code] for code in got.method} == {"nothing missing", "hmc"}
    for filled in (got.guess, *got.draws):
        assert not filled.isnan().any()
        kept = filled.float()[~gone].view(torch.int32)
        assert torch.equal(kept, seen[~gone].view(torch.int32)), "to the last bit"
    for about in (got.mean, got.sd):
        assert torch.equal(about.isnan(), ~gone)
    assert got.probability.isnan().all()
    assert len({tuple(filled[1].tolist()) for filled in got.draws}) == 3, "a draw each"


def test_intervals_of_draws_cover_the_cells() -> None:
    """Over rows of the model, the rank of a cell among its M draws is uniform."""
    x, gone = holes(400)
    pair = linear_table()
    M = 19
    got = complete(pair.model, pair.guide, x.masked_fill(gone, math.nan), M, num_samples=500, chain_rows=0)
    good = got.reliable
    assert good.double().mean() > 0.8
    ranks = (got.draws < x).sum(0)[good][gone[good]]
    inside = ((ranks >= 1) & (ranks <= M - 1)).double().mean().item()
    assert abs(inside - 0.9) < 4 * (0.09 / len(ranks)) ** 0.5, "of M = 19 draws the outer ones hold 90 %"
    counts = torch.bincount(ranks, minlength=M + 1).double()
    chi2 = ((counts - counts.mean()).square() / counts.mean()).sum()
    assert chi2 < M + 5 * (2 * M) ** 0.5


# ---- where the guide is bad


@pytest.mark.parametrize("method", ["fitted", "hmc"])
def test_a_bad_guide_is_replaced(method: str) -> None:
    """By a proposal that is fitted to each row, or by chains, where this has too few draws to be believed."""
    x, gone = holes(6)
    pair = linear_table(width=0.4, gain=0.1, shift=1.5)
    seen = x.masked_fill(gone, math.nan)
    count = 1000 if method == "fitted" else 20
    got = complete(pair.model, pair.guide, seen, 1000, num_samples=count, transitions=150)
    assert [METHODS[code] for code in got.method] == ["nothing missing"] + [method] * 5
    assert got.reliable.double().mean() > 0.8
    good = got.reliable & (got.method > 0)
    if method == "hmc":
        assert (got.rhat[good] <= 1.01).all()
    else:
        assert got.rhat.isnan().all()
        assert (got.khat[good] < 0.5).all()
    check_against_the_gaussian(x[good], gone[good], _rows(got, good), 300)


def test_chains_are_run_for_so_many_rows_at_most() -> None:
    x, gone = holes(6)
    pair = linear_table()
    seen = x.masked_fill(gone, math.nan)
    said: list[str] = []
    got = complete(pair.model, pair.guide, seen, 0, num_samples=20, chain_rows=2, transitions=10, say=said.append)
    assert [METHODS[code] for code in got.method] == ["nothing missing", "hmc", "hmc"] + ["fitted"] * 3
    assert got.reliable.tolist()[3:] == [False] * 3
    assert said == ["2 rows whose weights are not reliable get chains, which takes longer"]


def _rows(got: Completed, at: Tensor) -> Completed:
    return Completed(**{name: x[:, at] if name == "draws" else x[at] for name, x in vars(got).items()})


def classes(bad: bool) -> tuple[SimpleNamespace, np.ndarray]:
    """A table that depends on one of 3 classes, and a guide that says little of them."""
    p_x = MixedTable((2,), "binary,categorical:3", torch.zeros(4, 2)).double()
    raw = torch.tensor([[-2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, -1.0], [2.0, -1.0, 0.0, 1.5]], dtype=torch.float64)
    q = [0.998, 0.001, 0.001] if bad else [0.3, 0.3, 0.4]

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            c = pyro.sample("c", dist.Categorical(torch.ones(3).double()))
            pyro.sample("x", p_x(raw[c]), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("c", dist.Categorical(torch.tensor(q).double().expand(x.shape[0], 3)))

    softmax = torch.stack([torch.stack([1 - r[0].sigmoid(), r[0].sigmoid(), *r[1:].softmax(0)]) for r in raw])
    return SimpleNamespace(model=model, guide=guide), softmax.numpy()


@pytest.mark.parametrize("bad", [False, True])
def test_codes_given_a_code(bad: bool) -> None:
    """Discrete latents have no chains: where the weights are bad, more draws are taken. By Bayes' rule in numpy."""
    pair, p = classes(bad)
    x = torch.tensor([[1.0, math.nan], [math.nan, 2.0], [math.nan, math.nan]]).double()
    got = complete(pair.model, pair.guide, x, 2000, num_samples=4000)
    of_first = p[:, 1] / p[:, 1].sum()
    exact = [of_first @ p[:, 2:], p[:, 4] / p[:, 4].sum() @ p[:, :2], p.mean(0)]
    probabilities = exact[0].max(), max(exact[1]), exact[2][2:].max()
    found = [got.probability[0, 1], got.probability[1, 0], got.probability[2, 1]]
    np.testing.assert_allclose(found, probabilities, atol=0.15 if bad else 0.03)
    np.testing.assert_allclose(got.mean[0, 1], exact[0] @ np.arange(3), atol=0.3 if bad else 0.05)
    assert got.guess[0, 1] == np.argmax(exact[0])
    shares = [(got.draws[:, 0, 1] == code).double().mean() for code in range(3)]
    np.testing.assert_allclose(shares, exact[0], atol=0.3 if bad else 0.06)
    assert got.sd.isnan().all()
    if bad:
        assert set(got.method.tolist()) == {METHODS.index("importance")}
        assert got.reliable.all() or not got.reliable.all(), "said row by row"


def test_codes_and_counts_given_a_number_are_those_of_quadrature() -> None:
    p_x = MixedTable((4,), "real,binary,ordinal:3,count", torch.zeros(4, 4)).double()
    slope = torch.tensor([1.0, 2.0, -1.5, 0.8]).double()[: p_x.size]
    slope = torch.cat([slope, slope.new_zeros(p_x.size - len(slope))])
    z = torch.linspace(-9, 9, 4001).double().unsqueeze(-1)
    p = p_x(z * slope)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", p_x(pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1)) * slope), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x[:, :1] * 0.4, 1.1).to_event(1))

    x = torch.tensor([[1.3, math.nan, math.nan, math.nan]]).double()
    got = complete(model, guide, x, 4000, num_samples=40_000)
    post = (p.cell_log_prob(x.expand(len(z), 4))[:, 0] - z[:, 0] ** 2 / 2).softmax(0)
    for column, values in ((1, range(2)), (2, range(3)), (3, range(60))):
        rows = [x.new_full((1, 4), math.nan).index_fill(1, torch.tensor(column), float(v)) for v in values]
        exact = torch.stack([post @ p.cell_log_prob(row)[:, column].exp() for row in rows])
        codes = torch.tensor(list(values)).double()
        se = 5 / 4000**0.5
        shares = torch.stack([(got.draws[:, 0, column] == v).double().mean() for v in values])
        assert ((shares - exact).abs() < se).all()
        mean = (exact * codes).sum()
        sd = ((exact * codes.square()).sum() - mean.square()).sqrt()
        assert abs(got.mean[0, column] - mean) < se * sd
        if column == 3:
            assert abs(got.sd[0, 3] / sd - 1) < 0.1
            assert got.guess[0, 3] == got.mean[0, 3].round()
        else:
            assert abs(got.probability[0, column] - exact.max()) < se
            assert got.guess[0, column] == exact.argmax()


def test_a_model_without_cells_is_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True).expand(*z.shape[:-1], D), 1.0).to_event(1), obs=x)

    with pytest.raises(InputError, match=r"the model observes x \(Normal\), which is no table of cells"):
        complete(model, linear_table().guide, torch.zeros(2, D).double())
