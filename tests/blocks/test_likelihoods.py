"""Every likelihood: its density sums to one, its samples match it, support, gradients. One line adds a likelihood."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath  # torch brings it, by way of sympy
import numpy as np
import pyro
import pytest
import torch
from scipy import stats
from support.likelihoods import LIKELIHOODS, Case, softplus
from torch import Tensor, nn
from torch.distributions import constraints
from torch.fx.experimental.proxy_tensor import make_fx

import ppl_vae
from ppl_vae.blocks import GTMPrior, MixedTable, MixturePrior, distributions, likelihoods
from ppl_vae.core.errors import InputError
from ppl_vae.core.palette import PARTS

# ---- where to evaluate: points and weights ----


# ---- scipy's, from the likelihood (for what it owns) and the raw numbers of one dimension ----


ELSEWHERE = {"Autoregressive", "MixedTable"}
"""They have files of tests of their own."""


@pytest.fixture(params=LIKELIHOODS)
def case(request: pytest.FixtureRequest) -> Case:
    return LIKELIHOODS[request.param]


def one(case: Case) -> tuple[Any, Any, np.ndarray]:
    """A likelihood of one number, the distribution at a draw of raw numbers, and these."""
    likelihood = case.likelihood()
    raw = torch.randn(likelihood.size, dtype=torch.float64)
    return likelihood, likelihood(raw), raw.numpy()


def test_every_likelihood_is_tested() -> None:
    tested = {name.split(",")[0].split(" ")[0] for name in LIKELIHOODS}
    assert tested | ELSEWHERE == {likelihood.__name__ for likelihood in PARTS["likelihood"].values()}


@torch.no_grad()
def test_it_integrates_or_sums_to_one_and_has_the_mean_that_it_says(case: Case) -> None:
    _, p, _ = one(case)
    x, weight = case.points()
    mass = p.log_prob(x).exp() * weight
    assert mass.sum().item() == pytest.approx(1, abs=1e-3)
    if case.has_mean:
        assert p.mean.item() == pytest.approx((mass * x).sum().item(), rel=2e-3)
    else:
        assert p.mean.isnan().all()


@torch.no_grad()
def test_samples_match_the_density(case: Case) -> None:
    """χ² where x is discrete, Kolmogorov–Smirnov against the integral of the density where not."""
    _, p, _ = one(case)
    x, weight = case.points()
    mass = (p.log_prob(x).exp() * weight).numpy()
    draws = p.sample((5000,))
    assert p.support.check(draws).all()
    if not p.support.is_discrete:
        cdf = np.cumsum(mass) - mass / 2
        assert stats.kstest(draws.numpy(), lambda value: np.interp(value, x.numpy(), cdf)).pvalue > 1e-3
        return
    step = (x[1] - x[0]).item()
    observed = np.bincount((draws / step).round().long().numpy(), minlength=len(x))
    expected = mass * len(draws)
    common = expected >= 5
    expected = np.append(expected[common], expected[~common].sum())
    observed = np.append(observed[common], observed[~common].sum())
    if expected[-1] < 5:
        expected, observed = expected[:-1], observed[:-1]
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", [name for name, case in LIKELIHOODS.items() if case.exact])
@torch.no_grad()
def test_it_equals_scipys(name: str) -> None:
    case = LIKELIHOODS[name]
    assert case.exact is not None
    likelihood, p, raw = one(case)
    x = case.points()[0][:: max(1, len(case.points()[0]) // 400)].numpy()
    exact = case.exact(likelihood, *raw)
    log_p = getattr(exact, "logpmf" if p.support.is_discrete else "logpdf", exact)
    with np.errstate(divide="ignore"):
        expected = log_p(x)
    seen = expected > -25  # where scipy's difference of two cdfs still has digits
    assert seen.sum() > 1
    np.testing.assert_allclose(p.log_prob(torch.tensor(x))[seen], expected[seen], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_the_support_is_what_it_says(case: Case) -> None:
    _, p, _ = one(case)
    x, _ = case.points()
    assert p.support.check(x[1:-1]).all()
    assert p.support.check(x[len(x) // 3 : -len(x) // 3].float()).all()
    for value in case.outside:
        assert not p.support.check(torch.tensor(value, dtype=torch.float64)), value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_dtypes_and_leading_dimensions(case: Case, dtype: torch.dtype) -> None:
    for shape in ((), (3,), (2, 2)):
        likelihood = case.likelihood(shape, dtype)
        raw = torch.randn(5, 4, likelihood.size, dtype=dtype)
        p = likelihood(raw)
        x = p.sample()
        log_prob = p.log_prob(x)
        assert (p.batch_shape, p.event_shape, x.shape) == ((5, 4), shape, (5, 4, *shape))
        assert (log_prob.shape, log_prob.dtype) == ((5, 4), dtype)
        separate = [[likelihood(raw[k, i]).log_prob(x[k, i]) for i in range(4)] for k in range(5)]
        tolerance = 1e-4 if dtype == torch.float32 else 1e-10
        torch.testing.assert_close(
            log_prob, torch.stack([torch.stack(row) for row in separate]), rtol=tolerance, atol=tolerance
        )
        wide = p.expand((2, 5, 4)).log_prob(x)
        torch.testing.assert_close(wide, log_prob.expand(2, 5, 4), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [0.0, 20.0, -20.0, 1e4, -1e4])
def test_values_and_gradients_are_finite_at_the_extremes(case: Case, size: float) -> None:
    likelihood = case.likelihood((), torch.float32)
    x = case.points()[0].float()
    x = x[[1, len(x) // 2, -2]]
    x = x[likelihood(torch.zeros(likelihood.size)).support.check(x)]
    assert len(x)
    raw = torch.full((len(x), likelihood.size), size).requires_grad_()
    value = likelihood(raw).log_prob(x)
    assert torch.isfinite(value).all()
    value.sum().backward()
    assert torch.isfinite(raw.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in likelihood.parameters())


def test_what_it_owns_is_learned(case: Case) -> None:
    likelihood = case.likelihood((3,))
    raw = torch.randn(6, likelihood.size, dtype=torch.float64, requires_grad=True)
    p = likelihood(raw)
    p.log_prob(p.sample()).sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in [raw, *likelihood.parameters()] if w.numel())


def test_the_first_numbers_are_the_first_parameter_of_every_dimension() -> None:
    p = likelihoods.Gaussian((3,), "datum")(torch.tensor([1.0, 2.0, 3.0, -1.0, 0.0, 1.0]))
    assert p.mean.tolist() == [1, 2, 3]
    assert p.variance.sqrt().tolist() == pytest.approx([1e-3 + softplus(s) for s in (-1, 0, 1)])


# ---- in float32, at the hard places ----


@pytest.mark.parametrize("η", [0.0, 1e-4, 3.9e-3, 4.1e-3, 0.09, 0.11, 1.0, 15.0, 17.0, 30.0, 100.0])
def test_continuous_bernoulli_is_right_near_a_half_and_far_from_it(η: float) -> None:
    """log p(x) = ηx + log η/(eᵑ − 1) and E[x] = 1/(1 − e^{−η}) − 1/η, in 50 digits."""
    with mpmath.workdps(50):
        for sign in (1, -1):
            e = mpmath.mpf(float(torch.tensor(sign * η))) if η else mpmath.mpf("1e-12")
            log_p = float(e * mpmath.mpf("0.25") + mpmath.log(e / mpmath.expm1(e)))
            mean = float(1 / (1 - mpmath.exp(-e)) - 1 / e)
            variance = float(1 / e**2 - 1 / (4 * mpmath.sinh(e / 2) ** 2)) if η else 1 / 12
            u = mpmath.mpf("0.75")
            quantile = float(mpmath.log(1 + u * mpmath.expm1(e)) / e)
            p = distributions.ContinuousBernoulli(logits=torch.tensor(sign * η))
            assert p.log_prob(torch.tensor(0.25)).item() == pytest.approx(log_p, abs=2e-5)
            assert p.mean.item() == pytest.approx(mean, rel=1e-5)
            assert p.variance.item() == pytest.approx(variance, rel=2e-3)
            assert p.icdf(torch.tensor(0.75)).item() == pytest.approx(quantile, rel=1e-4)


def test_discretized_logistic_sums_to_one_wherever_its_location_is() -> None:
    x = torch.arange(256) / 255
    for loc in (-3.0, 0.0, 0.5, 1.0, 2.0):
        for scale in (1e-4, 1e-2, 1.0, 100.0):
            p = distributions.DiscretizedLogistic(torch.tensor(loc), torch.tensor(scale))
            assert p.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-4)


@torch.no_grad()
def test_spikes_have_probabilities_and_what_is_left_a_density() -> None:
    """The spikes and the integral of the density, by quadrature between the knots, sum to one; draws agree."""
    data = torch.cat([torch.zeros(300), 1.5 + torch.randn(500).square(), torch.full((100,), 2.5)]).unsqueeze(1)
    for raw in (-1.0, 0.0, 2.0):
        p = likelihoods.Shaped((1,), data, spikes=(2.5, 0.0)).double()(torch.tensor([raw], dtype=torch.float64))
        knots = p.base_dist.knots[0].double()
        ends = torch.cat([knots, knots[-1:] + 200.0])
        u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
        x = (ends[:-1, None] + ends.diff()[:, None] * u).reshape(-1, 1)
        weight = (ends.diff()[:, None] / len(u)).expand(-1, len(u)).flatten()
        x, weight = x[weight > 0], weight[weight > 0]
        density = p.log_prob(x).exp() * weight
        spikes = p.log_prob(torch.tensor([[0.0], [2.5]], dtype=torch.float64)).exp()
        assert (density.sum() + spikes.sum()).item() == pytest.approx(1, abs=1e-4)
        mean, square = ((density * x[:, 0].pow(k)).sum().item() + spikes[1].item() * 2.5**k for k in (1, 2))
        assert p.mean.item() == pytest.approx(mean, rel=1e-3)
        assert p.variance.item() == pytest.approx(square - mean**2, rel=1e-3)
        draws = p.sample((20_000,))
        for spike, probability in zip((0.0, 2.5), spikes.tolist(), strict=True):
            se = math.sqrt(probability * (1 - probability) / 20_000)
            assert abs((draws == spike).double().mean().item() - probability) < 4.5 * se
        assert draws.min() >= 0, "the lowest spike takes all that is below"
        assert not p.support.check(torch.tensor([-0.1]))


def test_a_shaped_likelihood_begins_as_the_data_are() -> None:
    data = torch.randn(2000, 2).exp()
    p = likelihoods.Shaped((2,), data)(torch.zeros(2))
    shares = torch.tensor([0.1, 0.5, 0.9])
    theirs, own = data.quantile(shares, 0), p.sample((20_000,)).quantile(shares, 0)
    torch.testing.assert_close(own, theirs, rtol=0.06, atol=0.0)
    levels = torch.distributions.Categorical(torch.tensor([0.5, 0.3, 0.15, 0.05])).sample((2000, 2)).float()
    p = likelihoods.Ordinal((2,), 4).begin(levels)(torch.zeros(2))
    expected = torch.stack([(levels == k).float().mean(0) for k in range(4)], -1)
    torch.testing.assert_close(p.base_dist.probs, expected, rtol=0, atol=5e-3)


def test_an_ordinal_keeps_its_gradient_far_out() -> None:
    raw = torch.tensor([60.0], requires_grad=True)
    log_p = likelihoods.Ordinal((), 3)(raw).log_prob(torch.zeros(()))
    assert log_p.item() == pytest.approx(-61)
    log_p.backward()
    assert raw.grad.item() == pytest.approx(-1)


def test_a_poisson_is_the_limit_of_a_negative_binomial_in_float32() -> None:
    likelihood = likelihoods.NegativeBinomial(())
    likelihood.log_theta.data.fill_(50.0)
    x, raw = torch.arange(30.0), torch.tensor([3.0])
    torch.testing.assert_close(
        likelihood(raw).log_prob(x), likelihoods.Poisson(())(raw).log_prob(x), rtol=1e-2, atol=2e-2
    )


# ---- floors, units ----


def test_units_come_from_the_data_without_its_missing_cells() -> None:
    data = torch.tensor([[1.0, 5.0, 0.1], [3.0, math.nan, 0.1], [5.0, 9.0, 0.1]])
    p = likelihoods.Gaussian((3,), 1.0, data=data)(torch.zeros(3))
    torch.testing.assert_close(p.mean, torch.tensor([3.0, 7.0, 0.1]))
    torch.testing.assert_close(p.variance.sqrt(), torch.tensor([math.sqrt(8 / 3), 2.0, 1.0]))
    rate = likelihoods.Poisson((3,), data)(torch.zeros(3)).mean
    torch.testing.assert_close(rate, math.log(2) * torch.tensor([3.0, 7.0, 0.1]), rtol=1e-4, atol=0)


def test_a_floor_that_binds_warns_in_evaluation_and_not_in_training() -> None:
    for scale in ("shared", "dimension", "datum"):
        likelihood = likelihoods.Gaussian((2,), scale)
        raw = torch.zeros(likelihood.size)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            likelihood.eval()(raw)
        if scale == "datum":
            raw[-1] = -9.0
        else:
            likelihood.log_scale.data.fill_(-9.0)
        likelihood.train()(raw)
        with pytest.warns(UserWarning, match=r"Gaussian: a σ has come down to its floor of 0.001"):
            p = likelihood.eval()(raw)
        assert (p.variance.sqrt() >= likelihood.floor).all()


def test_a_floor_that_binds_does_not_stop_a_capture() -> None:
    likelihood = likelihoods.Gaussian((2,), "datum").eval()
    raw, x = torch.full((3, 4), -9.0), torch.zeros(3, 2)

    class LogProb(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p_x = likelihood

        def forward(self, raw: Tensor) -> Tensor:
            return self.p_x(raw).log_prob(x)

    with pyro.validation_enabled(False), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        exported = torch.export.export(LogProb().eval(), (raw,), strict=False).module()(raw)
        traced = make_fx(lambda raw, x: likelihood(raw).log_prob(x), tracing_mode="fake", _allow_non_fake_inputs=True)
        captured = traced(raw, x)(raw, x)
    with pytest.warns(UserWarning, match="floor"):
        expected = likelihood(raw).log_prob(x)
    assert torch.equal(exported, expected)
    assert torch.equal(captured, expected)


MODEL = """
import pyro
from torch import nn
from ppl_vae.blocks import StandardNormalPrior, likelihoods, mlp

class Model(nn.Module):
    def __init__(self, data_shape, latent_dim=2):
        super().__init__()
        self.p_z, self.p_x = StandardNormalPrior(latent_dim), likelihoods.Gaussian(data_shape, "dimension", floor=0.01)
        self.decoder = mlp(latent_dim, self.p_x.size)

    def forward(self, x):
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.p_z())
            pyro.sample("x", self.p_x(self.decoder(z)), obs=x)
"""


def test_fit_warns_of_a_constant_column(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    data = torch.randn(200, 3)
    data[:, 1] = 0.5
    with pytest.warns(UserWarning, match="is a column constant"), pytest.warns(UserWarning, match="column 1 of field"):
        ppl_vae.fit(
            tmp_path / "model.py", "diagonal_normal", data, tmp_path / "run",
            lr=0.1, epochs=40, batch_size=20, schedule="cosine", set={"hidden": 8, "latent_dim": 2},
        )  # fmt: skip


def test_a_scale_that_is_none_is_refused() -> None:
    for scale in ("each", 0.0, -1.0, math.inf):
        with pytest.raises(InputError, match="scale is"):
            likelihoods.Gaussian((2,), scale)


def test_a_network_of_another_width_is_refused() -> None:
    for likelihood in (
        likelihoods.Gaussian((3,), "datum"),
        MixedTable((3,), "real,binary,ordinal:4", torch.zeros(5, 3)),
    ):
        with pytest.raises(InputError, match=rf"asks for {likelihood.size} numbers, the network gives 7"):
            likelihood(torch.zeros(4, 7))


def test_a_grid_says_what_it_holds() -> None:
    p = likelihoods.DiscretizedLogistic((2,))(torch.zeros(2))
    assert isinstance(p.support, constraints.independent)
    assert str(p.support.base_constraint) == "256 evenly spaced numbers from 0 to 1"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: likelihoods.Ordinal((2,), 1), "levels is 1: it must be at least 2"),
        (lambda: likelihoods.Categorical((2,), 1), "levels is 1"),
        (lambda: likelihoods.DiscretizedLogistic((2,), levels=1), "levels is 1"),
        (lambda: likelihoods.DiscretizedLogisticMixture((2,), components=0), "components is 0"),
        (lambda: likelihoods.Gaussian((2,), floor=-1.0), "floor is -1"),
        (lambda: MixturePrior(2, components=0), "components is 0: it must be at least 1"),
        (lambda: GTMPrior(2, grid=0), "grid is 0"),
    ],
)
def test_sizes_out_of_range_are_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
