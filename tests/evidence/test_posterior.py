"""Draws of the posterior made from those of a wrong guide: exact answers, and which rows are not to be believed."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.linear import linear_pair, wrong_guide
from support.pairs import Case, every_pair
from support.programs import PAIRS
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.posterior import Posterior, by_hmc, resampled, split_rhat

DRAWS, STANDARD_ERRORS = 1600, 4.5
WAYS: dict[str, Any] = {
    "resampled": lambda *pair: resampled(*pair, DRAWS, num_samples=40_000),
    "hmc": lambda *pair: by_hmc(*pair, DRAWS, transitions=500, leapfrog=3),
}


@pytest.mark.parametrize("way", WAYS)
def test_mean_and_covariance_are_the_posteriors_though_the_guide_is_wrong(way: str) -> None:
    pair, x = linear_pair()
    rows = x[:3]
    found: Posterior = WAYS[way](pair.model, wrong_guide(pair.guide, 0.4, 1.4), (rows,))
    assert found.reliable.all() or (found.diagnostics["rhat"] < 1.02).all()
    z, q = found.values["z"], pair.guide.posterior(rows)
    assert z.shape == (DRAWS, 3, 2)
    white = torch.linalg.solve_triangular(q.scale_tril.detach(), (z - q.mean.detach()).unsqueeze(-1), upper=False)
    white = white.squeeze(-1)  # standard normal, whatever the row
    n = DRAWS / 2  # resampled draws and those of a chain count for less than as many
    assert (white.mean(0).abs() < STANDARD_ERRORS / n**0.5).all()
    second = torch.einsum("kbi,kbj->bij", white, white) / DRAWS - torch.eye(2)
    assert (second.abs() < STANDARD_ERRORS * (2 / n) ** 0.5).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_positive_latent(way: str) -> None:
    """z ~ Gamma(2, 1), x ~ Poisson(z): the posterior is Gamma(2 + x, 2), the guide a LogNormal."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Gamma(x.new_tensor(2.0), x.new_tensor(1.0)))
            pyro.sample("x", dist.Poisson(z), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.LogNormal((x + 1).log() / 2, x.new_tensor(1.0)))

    x = torch.tensor([0.0, 2.0, 5.0]).double()
    z = WAYS[way](model, guide, (x,)).values["z"]
    exact = torch.distributions.Gamma(2 + x, torch.full_like(x, 2.0))
    assert (z > 0).all()
    n = DRAWS / 2
    assert ((z.mean(0) - exact.mean).abs() < STANDARD_ERRORS * (exact.variance / n).sqrt()).all()
    kurtosis = 3 + 6 / (2 + x)
    assert ((z.var(0) / exact.variance - 1).abs() < STANDARD_ERRORS * ((kurtosis - 1) / n).sqrt()).all()


def test_a_narrow_guide_is_flagged_by_resampling_and_mended_by_hmc() -> None:
    pair, x = linear_pair()
    narrow = wrong_guide(pair.guide, 0.0, 0.4)
    rows = x[:4]
    flagged = resampled(pair.model, narrow, (rows,), DRAWS)
    assert not flagged.reliable.any()
    assert flagged.diagnostics["khat"].mean() > 0.5
    mended = by_hmc(pair.model, narrow, (rows,), DRAWS)
    assert mended.reliable.all()
    ratio = mended.values["z"].var(0) / pair.guide.posterior(rows).variance
    assert (ratio - 1).abs().max() < STANDARD_ERRORS * (2 / (DRAWS / 2)) ** 0.5
    drawn = flagged.values["z"].var(0) / pair.guide.posterior(rows).variance
    assert drawn.mean() < 0.8


def test_the_exact_guide_loses_nothing_by_resampling() -> None:
    pair, x = linear_pair()
    found = resampled(pair.model, pair.guide, (x,), 100, num_samples=100, batch_size=7)
    assert (found.diagnostics["khat"] == -torch.inf).all()
    torch.testing.assert_close(found.diagnostics["ess"], torch.full((40,), 100.0).double())
    assert all(len(row.unique(dim=0)) == 100 for row in found.values["z"].unbind(1))  # each draw comes once


def test_a_discrete_latent_is_resampled_and_no_hmc_can_move_it() -> None:
    model, guide = PAIRS["categorical"].make()
    x = PAIRS["categorical"].data()
    with torch.no_grad():
        found = resampled(model, guide, (x,), 4000, num_samples=4000)
        log_lik = dist.Normal(model.v, model.s.exp()).to_event(1).log_prob(x.unsqueeze(1))
        exact = (log_lik + model.t.log_softmax(-1)).softmax(-1)[:, 1]
    assert ((found.values["c"].double().mean(0) - exact).abs() < 0.05).all()
    with pytest.raises(InputError, match="no coordinates"):
        by_hmc(model, guide, (x,), 8)


@pytest.mark.parametrize("name", ["two", "deep", "inner left", "inner right", "bits"])
def test_every_layout(name: str) -> None:
    model, guide = PAIRS[name].make()
    x = PAIRS[name].data()
    ways = [resampled(model, guide, (x,), 8, num_samples=50, batch_size=4)]
    if name != "bits":
        ways.append(by_hmc(model, guide, (x,), 8, transitions=4, warmup=4, chains=2, batch_size=4))
    for found in ways:
        assert found.reliable.shape == (len(x),)
        for z in found.values.values():
            assert z.shape[:2] == (8, len(x))
            assert z.isfinite().all()


@every_pair
def test_every_shipped_pair(case: Case) -> None:
    pair, data = case.pair(), case.data(4)
    found = resampled(pair.model, pair.guide, data, 6, num_samples=30)
    assert all(z.shape[:2] == (6, 4) for z in found.values.values())
    few = {"transitions": 4, "warmup": 4, "chains": 2}
    if case.model in ("categorical", "semi_supervised"):  # by enumeration, not by HMC
        with pytest.raises(InputError, match=r"no coordinates|masked"):
            by_hmc(pair.model, pair.guide, data, 6, **few)
        return
    found = by_hmc(pair.model, pair.guide, data, 6, **few)
    assert all(z.isfinite().all() for z in found.values.values())
    if case.model == "spherical":
        torch.testing.assert_close(found.values["z"].norm(dim=-1), torch.ones(6, 4))


def test_split_rhat() -> None:
    """Near 1 for draws of one distribution, far from it for chains at other places, of other spread, or that drift."""
    torch.manual_seed(1)
    x = torch.randn(1000, 4, 3)
    assert (split_rhat(x) < 1.01).all()
    assert (split_rhat(x + torch.arange(4).view(4, 1)) > 1.2).all()
    assert (split_rhat(x * torch.tensor([1.0, 1, 1, 3]).view(4, 1)) > 1.05).all()
    assert (split_rhat(x + torch.linspace(0, 3, 1000).view(-1, 1, 1)) > 1.2).all()
    arviz = pytest.importorskip("arviz")
    if arviz.__version__.startswith("0."):
        by_arviz = [float(arviz.rhat(x[..., i].T.numpy())) for i in range(3)]
        torch.testing.assert_close(split_rhat(x), torch.tensor(by_arviz).double(), atol=2e-4, rtol=0)


def test_bad_options() -> None:
    pair, x = linear_pair()
    with pytest.raises(InputError, match="multiple of 8"):
        by_hmc(pair.model, pair.guide, (x,), 20)
    with pytest.raises(InputError, match="at least 2"):
        resampled(pair.model, pair.guide, (x,), 20, num_samples=1)
