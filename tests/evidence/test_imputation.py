"""Missing cells given the others: against a Gaussian's conditionals; the baseline against its maximum likelihood."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.gaussian_table import SIGMA, D, W, gaussian_rows, given_the_others, linear_table
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.imputation import conditional, marginal, mean_and_mode
from ppl_vae.evidence.khat import ess, khat, reliable


def test_the_conditional_is_the_gaussians() -> None:
    x = gaussian_rows(12)
    gone = torch.rand(x.shape) < 0.4
    gone[0], gone[1] = True, False
    pair = linear_table()
    seen, hidden = x.masked_fill(gone, math.nan), x.masked_fill(~gone, math.nan)
    got = conditional(pair.model, pair.guide, seen, hidden, num_samples=40_000)
    assert got.ess.min() > 2000
    for i in range(len(x)):
        m, o = gone[i].nonzero().flatten(), (~gone[i]).nonzero().flatten()
        mean, S = map(torch.as_tensor, given_the_others(x[i], gone[i]))
        each = dist.Normal(mean, S.diagonal().sqrt()).log_prob(x[i, m])
        assert ((got.log_prob[i, m] - each).abs() <= 4.5 * got.log_prob_se[i, m]).all()
        joint = dist.MultivariateNormal(mean, S).log_prob(x[i, m]) if len(m) else torch.zeros(())
        assert (got.joint[i] - joint).abs() <= 4.5 * got.joint_se[i] + 1e-12
        assert ((got.mean[i, m] - mean).abs() <= 4.5 * (S.diagonal() / got.ess[i]).sqrt()).all()
        assert (got.log_prob[i, o].abs() < 1e-9).all()
        assert (got.log_prob_se[i, m] < 0.05).all()


def test_the_baseline_is_each_columns_maximum_likelihood() -> None:
    rows = torch.stack(
        [torch.randn(400) * 3 + 7, torch.randn(400).exp(), (torch.rand(400) < 0.3) * 1.0,
         torch.randint(3, (400,)) * 1.0, torch.randint(4, (400,)) * 1.0, torch.poisson(torch.rand(400) * 6)], 1
    ).double()  # fmt: skip
    rows[torch.rand(rows.shape) < 0.1] = math.nan
    p = marginal("real,positive,binary,categorical:3,ordinal:4,count", rows)
    there = [column[~column.isnan()] for column in rows.T]
    log_normal = dist.LogNormal(there[1].log().mean(), there[1].log().std(correction=0))
    exact = [dist.Normal(there[0].mean(), there[0].std(correction=0)).log_prob(there[0]).mean()]
    exact.append(log_normal.log_prob(there[1]).mean())
    for codes in there[2:5]:
        share = torch.bincount(codes.long()).double() / len(codes)
        exact.append((share * share.log()).sum())
    got = p.cell_log_prob(rows)[0].sum(0) / torch.tensor([len(column) for column in there])
    torch.testing.assert_close(got[:5], torch.stack(exact), atol=1e-4, rtol=0)
    mean, mode = mean_and_mode(p, torch.ones(1, 1).double())
    torch.testing.assert_close(mean[0, [0, 2, 3, 4, 5]], rows.nanmean(0)[[0, 2, 3, 4, 5]], atol=5e-3, rtol=0)
    assert mode[0, 2:5].tolist() == [torch.bincount(codes.long()).argmax().item() for codes in there[2:5]]


def test_what_is_refused() -> None:
    pair, x = linear_table(), torch.zeros(2, D).double()
    with pytest.raises(InputError, match="both seen and hidden"):
        conditional(pair.model, pair.guide, x, x)
    with pytest.raises(InputError, match=r"seen is \(2, 5\), hidden is \(1, 5\)"):
        conditional(pair.model, pair.guide, x, x[:1])


# ---- may the interval be believed? ----


def narrow_table(width: float, shift: float) -> tuple[SimpleNamespace, Tensor, dist.Distribution]:
    """`linear_table` with a guide of `width` times the posterior's deviations, `shift` of them off; x; the truth."""
    pair = linear_table()
    x = torch.tensor([[0.5, -0.3, 0.8, math.nan, math.nan]], dtype=torch.float64)
    o, m = [0, 1, 2], [3, 4]
    precision = torch.eye(2, dtype=torch.float64) + W[:, o] @ W[:, o].T / SIGMA**2
    L = torch.linalg.cholesky(torch.linalg.inv(precision))
    mean = torch.linalg.solve(precision, W[:, o] @ x[0, o] / SIGMA**2)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.MultivariateNormal((mean + shift * L.sum(1)).expand(len(x), 2), scale_tril=width * L))

    spread = W[:, m].T @ torch.linalg.inv(precision) @ W[:, m] + SIGMA**2 * torch.eye(2, dtype=torch.float64)
    return SimpleNamespace(model=pair.model, guide=guide), x, dist.MultivariateNormal(W[:, m].T @ mean, spread)


def coverage(width: float, shift: float, repeats: int = 400, K: int = 2000) -> tuple[Tensor, Tensor]:
    """Of intervals for log p(x_mis|x_obs): is the truth within 1.96 standard errors; is the row said to be reliable?"""
    pair, x, truth = narrow_table(width, shift)
    hidden = torch.full_like(x, math.nan)
    hidden[0, 3:] = torch.tensor([0.4, -0.9])
    rows, gone = x.expand(repeats, D), hidden.expand(repeats, D)
    got = conditional(pair.model, pair.guide, rows, gone, num_samples=K, batch_size=100)
    exact = truth.log_prob(hidden[0, 3:])
    return (got.joint - exact).abs() <= 1.96 * got.joint_se, got.reliable


def test_an_interval_that_is_called_reliable_covers() -> None:
    covered, reliable = coverage(1.2, 0.2)
    assert reliable.double().mean() > 0.9
    share = covered[reliable].double().mean()
    assert abs(share - 0.95) < 4 * (0.95 * 0.05 / reliable.sum()) ** 0.5


def test_the_interval_of_a_narrow_shifted_guide_is_called_unreliable() -> None:
    covered, reliable = coverage(0.6, 0.8)
    assert covered.double().mean() < 0.93, "else there is nothing to warn of"
    assert reliable.double().mean() < 0.1


def test_khat_is_the_shape_of_the_tail() -> None:
    """The weights of an exponential with rate 1 under a guide with rate λ > 1 have the tail index 1 − 1/λ."""
    for rate, shape in ((1.25, 0.2), (2.0, 0.5), (5.0, 0.8)):
        z = dist.Exponential(torch.tensor(rate).double()).sample((40_000, 8))
        log_w = (rate - 1) * z - math.log(rate)
        assert abs(khat(log_w).mean() - shape) < 4 * (1 + shape) / (3 * 200 * 8) ** 0.5, (
            "600 draws of the tail, 8 times"
        )
    torch.testing.assert_close(khat(log_w + 1e3), khat(log_w), atol=1e-6, rtol=0)


def test_khat_of_constant_weights_is_exact_and_of_no_tail_is_not() -> None:
    log_w = torch.full((500, 4), -312.5)
    log_w[:, 1] += 1e-5 * torch.randn(500)  # a float32 has no more digits
    log_w[:, 2] = torch.randn(500)
    log_w[3, 3] = math.nan
    k = khat(log_w)
    assert k[:2].tolist() == [-math.inf] * 2
    assert k[2] < 1
    assert k[3] == math.inf
    assert khat(torch.randn(3, 1)).item() == math.inf, "three draws show no tail"
    assert reliable(k, torch.full((4,), 500.0)).tolist()[:2] == [True, True]
    assert ess(log_w)[0].item() == pytest.approx(500)
