"""Simulation-based calibration: it passes the exact guide, rejects wrong ones, and says how they are wrong."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from support.linear import Z, linear_pair, prior_guide, wrong_guide
from support.pairs import Case, every_pair
from support.programs import PAIRS, Written, rows
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.calibration import LOG_JOINT, LOG_LIK, calibration
from ppl_vae.evidence.simulated import simulated
from ppl_vae.evidence.uniform import bands, counts, holm, p_values, slope_and_spread
from ppl_vae.programs import resolve_pair


def test_the_exact_guide_passes() -> None:
    pair, x = linear_pair()
    found = calibration(pair.model, pair.guide, (x,))
    assert list(found.quantities) == ["z[0]", "z[1]", LOG_LIK, LOG_JOINT]
    assert all(q.p_holm > 0.01 for q in found.quantities.values())
    assert found.passed
    assert found.simulations == 1000
    assert "nothing against q" in str(found)


@pytest.mark.parametrize(
    ("shift", "scale", "looks"), [(0.0, 0.75, "too narrow"), (0.0, 1.4, "too wide"), (-0.3, 1.0, "too low")]
)
def test_wrong_guides_are_rejected_and_it_is_said_how(shift: float, scale: float, looks: str) -> None:
    pair, x = linear_pair()
    found = calibration(pair.model, wrong_guide(pair.guide, shift, scale), (x,))
    for name in ("z[0]", "z[1]"):
        assert found.quantities[name].p_holm < 0.01
        assert found.quantities[name].looks.startswith(looks)
    assert not found.passed
    assert looks in str(found)
    assert found.asdict()["quantities"]["z[0]"]["looks"].startswith(looks)


def test_a_guide_that_ignores_x_is_seen_in_the_densities_alone() -> None:
    pair, x = linear_pair()
    found = calibration(pair.model, prior_guide, (x,))
    for i in range(Z):
        assert found.quantities[f"z[{i}]"].p > 0.01
    for name in (LOG_LIK, LOG_JOINT):
        assert found.quantities[name].p_holm < 0.001
        assert "too low" in found.quantities[name].looks
    assert set(found.rejected) == {LOG_LIK, LOG_JOINT}


def test_p_is_uniform_under_the_null() -> None:
    """Of log p(x, z), in 100 repeats: the count below 0.05 and below 0.5 is binomial."""
    pair, x = linear_pair()
    p = torch.tensor(
        [
            calibration(pair.model, pair.guide, (x,), simulations=100, draws=9).quantities[LOG_JOINT].p
            for _ in range(100)
        ]
    )
    for level in (0.05, 0.5):
        assert stats.binomtest(int((p < level).sum()), 100, level).pvalue > 0.001


def test_p_of_uniform_ranks_is_uniform_and_its_bands_hold_as_often() -> None:
    draws, repeats = 19, 10_000
    ranks = torch.randint(0, draws + 1, (150, 2000))
    p = p_values(ranks, draws, repeats)
    assert stats.binomtest(int((p <= 0.1).sum()), 2000, 0.1).pvalue > 0.001
    low, high = bands(150, draws, 0.1, repeats)
    below = counts(ranks, draws) / 150
    outside = ((below < low) | (below > high)).any(-1)
    assert torch.equal(outside, p <= 0.1)


def test_holm_by_hand() -> None:
    p = torch.tensor([0.01, 0.04, 0.03, 0.005]).double()
    torch.testing.assert_close(holm(p), torch.tensor([0.03, 0.06, 0.06, 0.02]).double())
    assert holm(torch.tensor([0.6, 0.7])).tolist() == [1, 1]


def test_slope_and_spread_are_standard_normal_of_uniform_ranks() -> None:
    each = torch.tensor([slope_and_spread(ranks, 9) for ranks in torch.randint(0, 10, (2000, 100))])
    assert (each.mean(0).abs() < 4 / 2000**0.5).all()
    assert ((each.std(0) - 1).abs() < 4 / 4000**0.5).all()


@pytest.mark.parametrize("wrong", [False, True])
def test_a_discrete_latent(wrong: bool) -> None:
    """Two classes and a Poisson: the exact posterior passes thanks to random ties, one that is too sure does not."""
    rate = torch.tensor([1.0, 4.0]).double()

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            c = pyro.sample("c", dist.Categorical(torch.tensor([0.3, 0.7]).double()))
            pyro.sample("x", dist.Poisson(rate[c]), obs=x)

    def guide(x: Tensor) -> None:
        log_lik = dist.Poisson(rate).log_prob(x.unsqueeze(-1))
        logits = log_lik + torch.tensor([0.3, 0.7]).double().log()
        with pyro.plate("data", x.shape[0]):
            pyro.sample("c", dist.Categorical(logits=3 * logits if wrong else logits))

    found = calibration(model, guide, (torch.ones(10).double(),))
    assert found.passed != wrong
    assert set(found.quantities) == {"c", LOG_LIK, LOG_JOINT}


# ---- the rows that are simulated ----


@pytest.mark.parametrize(
    "name", ["two", "deep", "factor", "inner right", "inner left", "categorical", "bits", "masked"]
)
def test_every_layout(name: str) -> None:
    model, guide = PAIRS[name].make()
    x = PAIRS[name].data()
    (drawn,), values = simulated(model, guide, (x,))
    assert drawn.shape == x.shape
    assert not torch.equal(drawn, x)
    assert all(z.shape[0] == 1 for z in values.values())
    found = calibration(model, guide, (x,), simulations=30, draws=5, batch_size=20)
    for q in found.quantities.values():
        assert q.ranks.shape == (30,)
        assert 0 <= q.ranks.min() <= q.ranks.max() <= 5


@every_pair
def test_every_shipped_pair(case: Case) -> None:
    pair, data = case.pair(), case.data(12)
    batch, _ = simulated(pair.model, pair.guide, data)
    assert not torch.equal(batch[0], data[0])
    if len(data) > 1 and case.model in ("conditional", "cells"):
        assert torch.equal(batch[1], data[1])
    if case.model == "semi_supervised":
        assert torch.equal(batch[1] < 0, data[1] < 0)
        assert not torch.equal(batch[1], data[1])
    found = calibration(pair.model, pair.guide, data, simulations=24, draws=4)
    assert found.simulations == 24


def test_missing_cells_stay_missing() -> None:
    x = torch.rand(12, 3)
    x[::2, 1] = torch.nan
    pair = resolve_pair("table", "table", (x,), {"kinds": "real", "latent_dim": 2})
    (drawn,), _ = simulated(pair.model, pair.guide, (x,))
    assert torch.equal(drawn.isnan(), x.isnan())
    assert calibration(pair.model, pair.guide, (x,), simulations=24, draws=4).simulations == 24


def test_what_is_observed_in_another_form_is_refused() -> None:
    def model(m: Written, x: Tensor) -> None:
        with rows(x):
            z = pyro.sample("z", dist.Normal(m.s, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.sum(-1))

    def guide(m: Written, x: Tensor) -> None:
        with rows(x):
            pyro.sample("z", dist.Normal(m.s, 1.0))

    with pytest.raises(InputError, match="'x' observes no field"):
        calibration(Written("model", model), Written("guide", guide), (torch.randn(4, 3),))
