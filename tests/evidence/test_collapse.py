"""Collapse against exact answers: information of the linear Gaussian model, guides that use few dimensions or none."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from support.oracles import SCENARIOS
from support.pairs import PAIRS
from support.programs import PAIRS as WRITTEN
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions import PowerSpherical, SphericalUniform
from ppl_vae.evidence.aggregate import draw_both, energy_test, information, log_q_of_all
from ppl_vae.evidence.collapse import Collapse, collapse
from ppl_vae.guides.linear_gaussian import Guide
from ppl_vae.models.linear_gaussian import Model
from ppl_vae.programs import score, simulate
from ppl_vae.programs.scores import sum_sites

D = 10
Program = Callable[[Tensor], None]


def pair(q: Callable[[Tensor], Any], prior: Any = None) -> tuple[Program, Program]:
    """The guide q(x) of a latent of D dimensions, by default with the prior N(0, I)."""
    prior = prior or dist.Normal(torch.zeros(D), 1.0).to_event(1)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", prior)
            mean = z.sum(-1, keepdim=True) if prior.event_dim else z.unsqueeze(-1).to(x.dtype)
            mean = mean.expand(*mean.shape[:-1], x.shape[-1])
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", q(x))

    return model, guide


def some_used(k: int, noise: float = 0.5) -> tuple[Program, Program]:
    """q(z_j|x) = N(√(1 − noise²) x_j, noise²) for j < k, else the prior: q(z) = p(z) if x ~ N(0, I)."""

    def q(x: Tensor) -> Any:
        used = torch.arange(D) < k
        mean = torch.where(used, math.sqrt(1 - noise**2) * x, 0.0)
        return dist.Normal(mean, torch.where(used, noise, 1.0)).to_event(1)

    return pair(q)


def within(c: Collapse, truth: float, errors: float = 4) -> None:
    i = c.information
    assert i.lower.value - errors * i.lower.se < truth < i.upper.value + errors * i.upper.se


def test_the_information_of_the_linear_gaussian_model() -> None:
    model = Model((4,), 2)
    with torch.no_grad():
        model.W.copy_(torch.tensor([[1.0, 0.0], [0.5, 1.0], [0.0, -1.0], [0.3, 0.2]]))
        model.log_sigma.fill_(-0.2)
    guide = Guide((4,), model)
    x = simulate(model, torch.zeros(800, 4))["x"]
    c = collapse(model, guide, x)
    W, variance = model.W.detach().double(), math.exp(-0.4)
    truth = 0.5 * torch.logdet(torch.eye(2).double() + W.T @ W / variance).item()
    within(c, truth)
    assert c.information.upper.value - c.information.lower.value < 0.3 * truth, "the bounds say something"
    assert abs(c.rate.value - truth) < 4 * c.rate.se, "q(z) is p(z), so that the rate is the information"
    i = c.information
    assert i.marginal_lower.value - 4 * i.marginal_lower.se < 0 < i.marginal_upper.value + 4 * i.marginal_upper.se
    assert c.two_sample.p > 0.01
    assert not i.saturated
    assert c.rate_by_dimension.isnan().all(), "a full covariance does not factorize"
    assert c.asdict()["rate_by_dimension"] == [None, None]
    of_means = torch.linalg.solve(W.T @ W + variance * torch.eye(2), W.T) @ (W @ W.T + variance * torch.eye(4)).double()
    exact = of_means @ torch.linalg.solve(W.T @ W + variance * torch.eye(2), W.T).T
    torch.testing.assert_close(c.mean_covariance, exact, rtol=0.2, atol=0.1)
    assert c.verdict.text == "no collapse: 2 of 2 dimensions carry information"


def test_a_guide_that_returns_the_prior_has_collapsed() -> None:
    c = collapse(*some_used(0), torch.randn(200, D))
    assert c.rate.value == 0
    assert c.information.lower.value == pytest.approx(0, abs=1e-6)
    assert c.information.upper.value == pytest.approx(0, abs=1e-6)
    assert c.verdict.active_units == {kind: {"active": 0, "of": D} for kind in ("covariance", "rate", "both")}
    assert c.verdict.text.startswith("collapsed")
    for cure in ("--warmup", "--warmup-cycles", "free-bits", "delta_normal", "batch_norm_normal"):
        assert cure in c.verdict.advice
    assert c.two_sample.p > 0.01


def test_a_posterior_that_is_the_same_for_all_rows_has_collapsed_whatever_its_rate() -> None:
    c = collapse(*pair(lambda x: dist.Normal(torch.full_like(x, 2.0), 1.0).to_event(1)), torch.randn(200, D))
    assert c.rate.value == pytest.approx(2.0 * D)
    assert c.verdict.active_units["rate"]["active"] == D
    assert c.verdict.active_units["both"]["active"] == 0
    assert c.verdict.text.startswith("collapsed")
    assert c.two_sample.p == 0.001
    assert c.information.marginal_upper.value == pytest.approx(2.0 * D, abs=0.1)


@pytest.mark.parametrize(("used", "verdict"), [(3, "partly collapsed"), (6, "no collapse"), (10, "no collapse")])
def test_the_dimensions_that_are_used_are_counted(used: int, verdict: str) -> None:
    c = collapse(*some_used(used), torch.randn(500, D))
    for kind in ("covariance", "rate", "both"):
        assert c.verdict.active_units[kind] == {"active": used, "of": D}
    assert c.verdict.text == f"{verdict}: {used} of {D} dimensions carry information"
    assert set(c.by_rate()[:used]) == set(range(used))
    each = 0.5 * (0.75 * torch.ones(used) + 0.25 - 1 - math.log(0.25))
    torch.testing.assert_close(c.rate_by_dimension[:used].float(), each, rtol=0.15, atol=0)
    within(c, used * -math.log(0.5))
    assert c.two_sample.p > 0.01


def test_an_aggregate_that_is_not_the_prior_is_found() -> None:
    c = collapse(*pair(lambda x: dist.Normal(0.5 * x, 0.3).to_event(1)), torch.randn(300, D))
    assert c.two_sample.p < 0.01
    assert "a better prior" in c.verdict.advice
    marginal = D * 0.5 * (0.34 - 1 - math.log(0.34))
    i = c.information
    assert i.marginal_lower.value < marginal < i.marginal_upper.value


def test_p_values_are_uniform_where_the_samples_agree_and_small_where_not() -> None:
    agree = torch.tensor([energy_test(torch.randn(40, 3), torch.randn(40, 3)).p for _ in range(200)])
    assert abs(agree.mean() - 0.5) < 4 * math.sqrt(1 / 12 / 200)
    assert (agree < 0.05).double().mean() < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 200)
    apart = energy_test(torch.randn(200, 3), 1.6 * torch.randn(200, 3))
    assert apart.p < 0.01
    same = torch.zeros(5, 2)
    assert energy_test(same, same) == (0.0, 1.0)


def test_rows_that_are_all_told_apart_are_said_to_be() -> None:
    c = collapse(*some_used(D, noise=0.01), torch.randn(100, D))
    assert c.information.saturated
    assert c.information.lower.value == pytest.approx(math.log(100), abs=1e-3)
    assert c.information.upper_by == "rate"
    assert "told apart" in str(c)
    assert not collapse(*some_used(1), torch.randn(100, D)).information.saturated


def test_the_bounds_of_rows_that_are_alike_or_apart() -> None:
    alike = information(torch.zeros(5, 5), torch.zeros(5), shared=False)
    assert (alike.lower.value, alike.upper.value) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
    apart = information(torch.eye(5).double() * 30, torch.full((5,), 9.0).double(), shared=False)
    assert (apart.lower.value, apart.upper.value) == (pytest.approx(math.log(5)), pytest.approx(30))
    by_rate = information(torch.eye(5).double() * 30, torch.full((5,), 9.0).double(), shared=True)
    assert (by_rate.upper.value, by_rate.upper_by, by_rate.marginal_lower.value) == (9, "rate", 0)
    assert by_rate.marginal_upper.value == pytest.approx(9 - math.log(5))


def test_the_errors_of_the_bounds() -> None:
    """The spread of the bounds over data sets is the standard error that each of them has."""
    lower, upper, errors = [], [], []
    for _ in range(100):
        x = torch.randn(100, 1, dtype=torch.float64)
        q = dist.Normal(0.9 * x.T, math.sqrt(0.19))
        log_q = q.log_prob(q.sample().T)
        found = information(log_q, x[:, 0] * torch.nan, shared=False)
        lower.append(found.lower.value)
        upper.append(found.upper.value)
        errors.append([found.lower.se, found.upper.se])
    truth = -0.5 * math.log(0.19)
    for values, se, sign in ((lower, 0, -1), (upper, 1, 1)):
        v, e = torch.tensor(values), torch.tensor(errors)[:, se].square().mean().sqrt()
        assert v.std() == pytest.approx(e.item(), rel=4 / math.sqrt(2 * 99))
        assert sign * (v.mean() - truth) > 0, "it is a bound"
        assert abs(v.mean() - truth) < 0.2


def test_a_class_as_latent() -> None:
    """Four classes that x tells: the information is log 4, and a class has no mean."""
    model, guide = pair(
        lambda x: dist.Categorical(logits=20.0 * torch.nn.functional.one_hot(x[..., 0].long(), 4).to(x.dtype)),
        dist.Categorical(logits=torch.zeros(4)),
    )
    c = collapse(model, guide, torch.arange(200.0).remainder(4)[:, None])
    assert c.rate.value == pytest.approx(math.log(4), abs=1e-4)
    assert c.rate_by_dimension.tolist() == [pytest.approx(math.log(4), abs=1e-4)]
    assert c.information.lower.value == pytest.approx(math.log(4), abs=1e-4)
    assert c.mean_variance.isnan().all()
    assert c.verdict.active_units["covariance"] == {"active": 0, "of": 0}
    assert any("not for a Categorical" in note for note in c.notes)
    assert c.verdict.text.startswith("no collapse")
    assert "delta_normal" not in c.verdict.advice
    assert c.two_sample.p > 0.01


def test_any_two_classes_are_equally_far_apart() -> None:
    logits = torch.tensor([0.0, 0.5, -0.5, 1.0])
    model, guide = pair(lambda x: dist.Categorical(logits=logits + 0 * x[:, :4]), dist.Categorical(logits=logits))
    draws = draw_both(model, guide, (torch.randn(40, 5),))
    points = draws.points(draws.q, draws.p)
    apart = torch.cdist(points, points).unique()
    torch.testing.assert_close(apart, torch.tensor([0, math.sqrt(2)]).to(apart))


def test_a_direction_as_latent() -> None:
    model, guide = pair(
        lambda x: PowerSpherical(torch.nn.functional.normalize(x[:, :3], dim=-1), x.new_tensor(20.0)),
        SphericalUniform(torch.zeros(3)),
    )
    c = collapse(model, guide, torch.randn(300, D))
    assert c.verdict.text.startswith("no collapse: z tells")
    assert c.verdict.active_units["both"] == {"active": 0, "of": 0}
    within(c, c.rate.value)  # a uniform direction, so that q(z) = p(z)


def deep(used: bool) -> tuple[Program, Program]:
    """Two sites, the second given the first; the guide says something of x by both, or by the first alone."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            top = pyro.sample("top", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            z = pyro.sample("z", dist.Normal(top, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            top = pyro.sample("top", dist.Normal(math.sqrt(0.5) * x, math.sqrt(0.5)).to_event(1))
            pyro.sample("z", dist.Normal(top + (0.8 * x if used else 0), 1.0).to_event(1))

    return model, guide


def test_a_hierarchy() -> None:
    c = collapse(*deep(used=False), torch.randn(600, 2), num_samples=50)
    assert c.dimensions == ("top[0]", "top[1]", "z[0]", "z[1]")
    assert c.verdict.active_units["rate"] == {"active": 2, "of": 4}, "z given top is as in the prior"
    within(c, -2 * 0.5 * math.log(0.5))
    torch.testing.assert_close(c.mean_variance, torch.full((4,), 0.5).double(), rtol=0.25, atol=0)
    torch.testing.assert_close(c.correlation[0, 2], c.correlation.new_tensor(1.0), rtol=0, atol=0.02)
    assert collapse(*deep(used=True), torch.randn(100, 2)).verdict.active_units["rate"]["active"] == 4


def test_the_noise_of_means_that_are_drawn_is_subtracted() -> None:
    """A guide whose mean has no closed form, and is 0 for every x: the mean of K = 5 draws has the variance 0.2."""

    class NoMean(dist.Normal):
        @property
        def mean(self) -> Tensor:
            raise NotImplementedError

    c = collapse(*pair(lambda x: NoMean(torch.zeros_like(x), 1.0).to_event(1)), torch.randn(2000, D), num_samples=5)
    assert c.mean_variance.abs().max() < 0.05


@pytest.mark.parametrize("batch_size", [7, 50])
def test_the_size_of_a_batch_changes_nothing(batch_size: int) -> None:
    x = torch.randn(120, D)
    found = []
    for size in (120, batch_size):
        torch.manual_seed(3)
        found.append(collapse(*some_used(4), x, batch_size=size).asdict())
    a, b = found
    assert a["rate_by_dimension"] == pytest.approx(b["rate_by_dimension"], rel=1e-5, abs=1e-7)
    for bound in ("lower", "lower_se", "upper", "upper_se"):
        assert a["mutual_information"][bound] == pytest.approx(b["mutual_information"][bound], rel=1e-5)
    assert a["mean_variance"] == pytest.approx(b["mean_variance"], rel=1e-5, abs=1e-7)
    assert a["two_sample"] == b["two_sample"]


@pytest.mark.parametrize("name", PAIRS)
def test_every_shipped_pair(name: str) -> None:
    case = PAIRS[name]
    programs = case.pair()
    c = collapse(programs.model, programs.guide, case.data(40), num_samples=2, batch_size=16)
    masked = name.endswith("some labels")
    assert c.information.lower.value <= c.information.upper.value + 4 * c.information.upper.se or masked
    assert bool(c.information.why) == masked
    assert c.posterior.shape == c.prior.shape == (40, len(c.dimensions))
    assert c.verdict.text in str(c)
    assert c.to_json()


@pytest.mark.parametrize("name", [name for name in WRITTEN if "masked" not in name])
def test_the_draw_of_a_row_is_scored_at_the_others(name: str) -> None:
    """Against `score`, which is given every row the draw of the row before it."""
    case = WRITTEN[name]
    model, guide = case.make()
    x = case.data()
    with torch.no_grad():
        draws = draw_both(model, guide, (x,))
        log_q = log_q_of_all(model, guide, (x,), draws, batch_size=len(x))
        t = draws.first
        moved = {s: t.layouts[s].rows_back(z.roll(1, 0).unsqueeze(0), t.q[s]) for s, z in draws.q.items()}
        expected = sum_sites(score(model, guide, x, moved).log_q)[0]
    torch.testing.assert_close(log_q.roll(1, 0).diagonal(), expected.double(), rtol=1e-4, atol=1e-4)
    assert not collapse(model, guide, x, num_samples=2, batch_size=4).information.why


def test_a_guide_with_dropout_has_no_information_to_show() -> None:
    model, guide = pair(lambda x: dist.Normal(torch.nn.functional.dropout(x), 0.1).to_event(1))
    c = collapse(model, guide, torch.randn(50, D))
    assert "dropout" in c.information.why
    assert c["mutual_information"]["lower"] is None
    assert math.isnan(c.information.lower.value)


def test_a_prior_that_is_given_covariates_bounds_no_marginal() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    c = collapse(model, guide, torch.randn(100, 2))
    assert c.information.upper_by == "leave-one-out"
    assert math.isnan(c.information.marginal_upper.value)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InputError, match="needs 3 at least"):
        collapse(*some_used(1), torch.randn(2, D))
    with pytest.raises(InputError, match="num_samples"):
        collapse(*some_used(1), torch.randn(5, D), num_samples=1)


def test_of_many_rows_the_aggregate_takes_some_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in the order of their size, and so of their rate."""
    monkeypatch.setattr("ppl_vae.evidence.collapse.MOST_ROWS", 50)
    x = torch.randn(1000, D)
    x = x[x.norm(dim=-1).argsort()]
    calls: list[None] = []
    c = collapse(*some_used(D, noise=0.01), x, batch_size=300, advance=lambda: calls.append(None))
    i = c.information
    assert (c.rows, i.rows, len(c.posterior), len(calls)) == (1000, 50, 50, 4)
    assert i.upper_by == "rate"
    assert abs(i.upper.value - c.rate.value) < 4 * i.upper.se
    assert i.upper.se / c.rate.se == pytest.approx(math.sqrt(20), rel=0.4)


def test_a_guide_with_an_auxiliary_draw_has_a_rate_and_no_information() -> None:
    scenario = SCENARIOS["change of variables"](True)
    x = torch.randn(400).double()
    c = collapse(scenario.model, scenario.guide, x, num_samples=200)
    rate = scenario.exact(scenario.model, scenario.guide, x).rates.sum(-1).mean().item()
    assert c.rate.value == pytest.approx(rate, abs=0.03)
    assert c.rate_how["z"].startswith("Monte Carlo")
    assert "'u' is masked, a point or auxiliary" in c.information.why
    assert c.dimensions == ("z",)
    slope = (scenario.guide.t.exp() * scenario.guide.k).item()
    assert c.mean_variance.item() == pytest.approx(slope**2 * x.var().item(), rel=0.05)
    assert c.verdict.text == "no collapse: 1 of 1 dimensions carry information"
