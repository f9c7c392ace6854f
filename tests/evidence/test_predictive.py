"""Posterior predictive checks: statistics by hand, a right model passes, and a wrong one is found by the right T."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from support.linear import linear_pair
from support.programs import PAIRS, B, D
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.predictive import STATISTICS, predictive_check
from ppl_vae.programs import resolve_pair


def counts_model(x: Tensor) -> None:
    """z ~ Gamma(2, 1), 30 counts x ~ Poisson(z)."""
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Gamma(x.new_tensor(2.0), x.new_tensor(1.0)))
        pyro.sample("x", dist.Poisson(z.unsqueeze(-1)).expand([*z.shape, 30]).to_event(1), obs=x)


def counts_guide(x: Tensor) -> None:
    """The exact posterior."""
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Gamma(2 + x.sum(-1), torch.full_like(x[:, 0], 31.0)))


def test_statistics_by_hand() -> None:
    x = torch.tensor([[[1.0, 0.0], [3.0, torch.nan]], [[0.0, 0.0], [0.0, 4.0]]])
    expected = {
        "mean": [4 / 3, 1],
        "sd": [(14 / 9) ** 0.5, 3**0.5],
        "min": [0, 0],
        "max": [3, 4],
        "zeros": [1 / 3, 0.75],
    }
    for name, statistic in STATISTICS.items():
        torch.testing.assert_close(statistic(x), torch.tensor(expected[name], dtype=x.dtype))


def test_the_p_value_is_exact_where_z_is_known() -> None:
    """x ~ N(0, I) whatever z: the mean of 4 numbers is N(0, 1/4)."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))
            pyro.sample("x", dist.Normal(0 * z.unsqueeze(-1), x.new_ones(4)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))

    x = torch.randn(7, 4).double()
    found = predictive_check(model, guide, (x,), ["mean"], draws=10_000, batch_size=3).statistics["mean"]
    assert found.replicated.shape == (10_000, 7)
    torch.testing.assert_close(found.observed, x.mean(-1))
    exact = torch.tensor(stats.norm.sf(2 * x.mean(-1).numpy()))
    assert ((found.p - exact).abs() < 4.5 * (exact * (1 - exact) / 10_000).sqrt()).all()


@pytest.mark.parametrize("inflated", [False, True])
def test_zeros_find_what_a_poisson_can_not_make(inflated: bool) -> None:
    z = torch.distributions.Gamma(torch.tensor(2.0).double(), 1.0).sample((300, 1))
    x = torch.poisson(z.expand(-1, 30))
    if inflated:
        x = x * (torch.rand_like(x) > 0.4)
    found = predictive_check(counts_model, counts_guide, (x,), ["mean", "zeros"], draws=100)
    mean, zeros = (found.asdict()[name] for name in ("mean", "zeros"))
    assert mean["low"] + mean["high"] < 0.02  # the mean is what z was fitted to
    assert (zeros["low"] > 0.3) == inflated
    assert (zeros["low"] < 0.05) != inflated
    assert "zeros" in str(found)


def test_a_statistic_of_ones_own() -> None:
    pair, x = linear_pair()
    found = predictive_check(pair.model, pair.guide, (x,), {"first": lambda x: x[:, 0]}, draws=50)
    torch.testing.assert_close(found.statistics["first"].observed, x[:, 0])
    assert 0.3 < found.statistics["first"].p.mean() < 0.7


@pytest.mark.parametrize("name", ["two", "inner right", "inner left", "factor"])
def test_every_layout(name: str) -> None:
    model, guide = PAIRS[name].make()
    x = PAIRS[name].data()
    found = predictive_check(model, guide, (x,), ["max"], draws=5, batch_size=4).statistics["max"]
    torch.testing.assert_close(found.observed, x.reshape(B, D).amax(-1).double())
    assert found.replicated.shape == (5, B)
    assert found.replicated.isfinite().all()


def test_missing_cells_stay_missing() -> None:
    x = torch.rand(12, 3)
    x[::2, 1] = torch.nan
    pair = resolve_pair("table", "table", (x,), {"kinds": "real", "latent_dim": 2})
    found = predictive_check(pair.model, pair.guide, (x,), {"missing": lambda x: x.isnan().sum(-1)}, draws=5)
    assert torch.equal(found.statistics["missing"].replicated, found.statistics["missing"].observed.expand(5, 12))


def test_refusals() -> None:
    pair, x = linear_pair()
    for options, words in [
        ({"statistics": ["mea"]}, "no statistic is called 'mea'.*mean"),
        ({"statistics": {"T": lambda x: x}}, r"'T' gives the shape \(40, 5\)"),
        ({"site": "y"}, "observes no site 'y': it observes 'x'"),
        ({"draws": 0}, "at least 1"),
    ]:
        with pytest.raises(InputError, match=words):
            predictive_check(pair.model, pair.guide, (x,), **options)


def test_the_spread_of_large_numbers() -> None:
    x = torch.tensor([[1e25, -1e25, 3e25, 1e25]])
    assert STATISTICS["sd"](x).item() == pytest.approx(2**0.5 * 1e25)
