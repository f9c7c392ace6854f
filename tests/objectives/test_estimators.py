"""Every objective's value and gradient against exact answers, or a naive estimator that knows nothing of Pyro."""

import math
from collections.abc import Callable
from typing import Any

import mpmath  # torch brings it, by way of sympy
import pyro
import pyro.distributions as dist
import pytest
import torch
from support.estimators import (
    CASES,
    FLOOR,
    IN_ORDER,
    Case,
    Part,
    elbo,
    is_unbiased,
    iwae,
    leaves_no_noise,
    part,
    pyro_iwae,
    stays_a_bound_under_a_scaled_plate,
)
from support.naming import named
from support.oracles import (
    SCENARIOS,
    agree,
    cached_naive,
    cached_scenario,
    closed,
)
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.objectives import (
    IWAE_ELBO,
    AnalyticKL_ELBO,
    Beta_ELBO,
    DReG_ELBO,
    FreeBits_ELBO,
    MeanField_ELBO,
    Objective,
    Renyi_ELBO,
    ScoreFunction_ELBO,
    StickingTheLanding_ELBO,
    Trace_ELBO,
)
from ppl_vae.objectives.renyi import power_mean

on_every_scenario = pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, scenario, id=f"{key}-{scenario}")
        for key, case in CASES.items()
        for scenario in SCENARIOS
        if not (key in IN_ORDER and scenario in ("bottom-up", "change of variables"))
    ],
)
every_k = pytest.mark.parametrize("K", [1, 5])
every_scenario = pytest.mark.parametrize("name", SCENARIOS)
exact_or_wide = pytest.mark.parametrize("exact", [True, False], ids=["exact", "wide"])


# ---- the oracles themselves ----


@every_scenario
def test_the_elbo_of_the_exact_guide_is_log_px(name: str) -> None:
    s = cached_scenario(name, True)
    torch.testing.assert_close(s.exact(s.model, s.guide, s.x).elbo, s.log_px(s.model, s.x), rtol=1e-10, atol=1e-10)


@every_scenario
@exact_or_wide
def test_the_closed_form_is_the_mean_of_the_naive_log_weight(name: str, exact: bool) -> None:
    agree(cached_naive(name, exact, iwae, 1), closed(cached_scenario(name, exact), elbo))


@every_scenario
def test_the_wide_guide_is_wrong_and_wide(name: str) -> None:
    s = cached_scenario(name, False)
    gap = s.log_px(s.model, s.x) - s.exact(s.model, s.guide, s.x).elbo
    assert (gap > 0.05).all()


# ---- the objectives ----


@pytest.mark.slow
@exact_or_wide
@every_k
@on_every_scenario
def test_value_and_gradient_are_unbiased(case: Case, name: str, K: int, exact: bool) -> None:
    is_unbiased(case, name, K, exact)


@exact_or_wide
@every_k
@on_every_scenario
def test_at_one_seed_the_value_is_the_naive_one_at_the_same_noise(case: Case, name: str, K: int, exact: bool) -> None:
    s = cached_scenario(name, exact)
    torch.manual_seed(3)
    estimate = case.make(K).estimate(s.model, s.guide, (s.x,))
    assert estimate.value.shape == estimate.surrogate.shape == (len(s.x),)
    if case.reduce is not None:
        torch.manual_seed(3)
        sites = [torch.randn(K, len(s.x), size, dtype=torch.float64) for size in s.noise]
        log_w = s.log_w(s.model, s.guide, s.x, torch.cat(sites, -1)[None])
        torch.testing.assert_close(estimate.value, case.reduce(log_w)[0], rtol=1e-9, atol=1e-9)


@every_scenario
@pytest.mark.parametrize("objective", [StickingTheLanding_ELBO(), StickingTheLanding_ELBO(5), DReG_ELBO(5)], ids=named)
def test_at_the_posterior_no_noise_is_left_in_the_guides_gradient(name: str, objective: Objective) -> None:
    leaves_no_noise(name, objective)


@pytest.mark.parametrize("name", ["one site", "shared"])
def test_where_every_site_has_a_closed_form_mean_field_is_analytic_kl(name: str) -> None:
    s = cached_scenario(name, False)
    estimates = []
    for objective in (MeanField_ELBO(5), AnalyticKL_ELBO(5), Beta_ELBO(5, beta=1.0), FreeBits_ELBO(5, floor=0.0)):
        torch.manual_seed(4)
        estimates.append(objective.estimate(s.model, s.guide, (s.x,)))
        assert objective.target == "ELBO"
    assert MeanField_ELBO().how(estimates[0].terms) == {"z": "closed form"}
    for other in estimates[1:]:
        torch.testing.assert_close(other.value, estimates[0].value)


@pytest.mark.parametrize("objective", [AnalyticKL_ELBO(), FreeBits_ELBO(5)], ids=named)
def test_a_bottom_up_guide_has_no_closed_form_site_by_site(objective: Objective) -> None:
    s = cached_scenario("bottom-up", False)
    with pytest.raises(InputError, match=f"{objective.name}: site 'z1': the guide draws z1, z2 but the model z2, z1"):
        objective.estimate(s.model, s.guide, (s.x,))


def test_a_closed_form_needs_the_parents_first() -> None:
    """Bottom-up: z2, the model's first, has no parent; z1 has z2, which the guide draws after it."""
    s = cached_scenario("bottom-up", False)
    t = MeanField_ELBO().estimate(s.model, s.guide, (s.x,)).terms
    how = MeanField_ELBO().how(t)
    assert list(how) == ["z1", "z2"]
    assert how["z1"].startswith("Monte Carlo (the guide draws z1, z2 but the model z2, z1")
    assert how["z2"] == "closed form"


def test_free_bits_charge_the_floor_for_the_dimensions_below_it() -> None:
    s = cached_scenario("one site", False)
    rates = s.exact(s.model, s.guide, s.x).rates.mean(0)
    assert rates.min() < FLOOR < rates.max(), "one dimension below, one above: else this shows nothing"


def test_dreg_of_one_draw_is_sticking_the_landing() -> None:
    for name in SCENARIOS:
        s = cached_scenario(name, False)
        gradients = []
        for objective in (DReG_ELBO(1), StickingTheLanding_ELBO(1)):
            torch.manual_seed(5)
            gradients.append(s.gradient(objective.estimate(s.model, s.guide, (s.x,)).surrogate.sum()))
        torch.testing.assert_close(*gradients)


def test_renyi_goes_from_iwae_to_the_elbo_and_beyond() -> None:
    """At the same draws the value falls as α rises: α = 0 is IWAE, α → 1 the ELBO's, α < 0 lies above IWAE."""
    s = cached_scenario("one site", False)

    def value(objective: Objective) -> Tensor:
        torch.manual_seed(6)
        return objective.estimate(s.model, s.guide, (s.x,)).value

    orders = [-2.0, -0.5, 0.0, 0.5, 1 - 1e-9, 2.0]
    values = torch.stack([value(Renyi_ELBO(5, alpha=α)) for α in orders])
    assert (values.diff(dim=0) < 0).all()
    torch.testing.assert_close(values[2], value(IWAE_ELBO(5)))
    torch.testing.assert_close(values[4], value(Trace_ELBO(5)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("K", [2, 50, 2000])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("α", [-1.0, 0.0, 0.5, *(1 - 10.0**-n for n in range(1, 13)), 1 + 1e-6, 1 + 1e-3, 2.0, 30.0])
def test_renyi_keeps_its_digits_in_float32_at_every_order(α: float, spread: float, K: int) -> None:
    """Against 50 digits; the gradient is a weight per draw, w_k^(1−α)/Σ_j w_j^(1−α)."""
    torch.manual_seed(3)
    log_w = (-90 + spread * torch.randn(K, 1)).requires_grad_()
    value = power_mean(log_w, 1 - α)
    value.sum().backward()
    with mpmath.workdps(50):
        powers = [mpmath.exp((1 - mpmath.mpf(α)) * mpmath.mpf(w)) for w in log_w.flatten().tolist()]
        total = mpmath.fsum(powers)
        exact = float(mpmath.log(total / K) / (1 - mpmath.mpf(α)))
        weights = [float(power / total) for power in powers]
    size = log_w.abs().max().item()
    eps = torch.finfo(torch.float32).eps
    assert value.item() == pytest.approx(exact, abs=4 * eps * size)
    assert log_w.grad is not None
    exponent = abs(1 - α) * (size + spread)  # what e^x multiplies the rounding of x by
    torch.testing.assert_close(
        log_w.grad.flatten().double(), torch.tensor(weights).double(), rtol=8 * eps * (4 + exponent), atol=1e-30
    )


def test_renyi_of_weights_that_are_zero() -> None:
    log_w = torch.tensor([[-math.inf, -math.inf, 0.0], [-math.inf, 1.0, 0.0]])
    assert power_mean(log_w, 0.5).tolist() == pytest.approx([-math.inf, 1 - 2 * math.log(2), 0])
    assert power_mean(log_w, -0.5).tolist() == pytest.approx([-math.inf, -math.inf, 0])


def test_renyi_of_negative_order_is_no_upper_bound_at_finite_k() -> None:
    s = cached_scenario("one site", False)
    with torch.no_grad():
        x = s.x.repeat(20_000, 1)
        values = Renyi_ELBO(2, alpha=-0.5).estimate(s.model, s.guide, (x,)).value.view(-1, len(s.x)).sum(-1)
    log_px = s.log_px(s.model, s.x).sum()
    assert values.mean() + 4 * values.std() / len(values) ** 0.5 < log_px


@pytest.mark.parametrize(
    ("objective", "target"),
    [
        (IWAE_ELBO(1), "ELBO"),
        (IWAE_ELBO(7), "IWAE_7"),
        (DReG_ELBO(7), "IWAE_7"),
        (Renyi_ELBO(7, alpha=0.0), "IWAE_7"),
        (Renyi_ELBO(7, alpha=0.5), "VR_7(α=0.5)"),
        (Renyi_ELBO(1, alpha=0.5), "ELBO"),
        (Beta_ELBO(beta=4.0), "β-ELBO(β=4)"),
        (FreeBits_ELBO(floor=0.5), "free-bits(λ=0.5)"),
    ],
    ids=named,
)
def test_an_objective_says_what_it_estimates(objective: Objective, target: str) -> None:
    assert objective.target == target


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Renyi_ELBO(alpha=1.0), "alpha = 1 is the ELBO"),
        (lambda: Renyi_ELBO(alpha=math.inf), "must be finite"),
        (lambda: Beta_ELBO(beta=-1.0), "beta: beta is -1.0: it must be at least 0"),
        (lambda: Beta_ELBO(beta=math.inf), "beta is inf: it must be a finite number, at least 0"),
        (lambda: FreeBits_ELBO(floor=math.nan), "floor is nan: it must be a finite number, at least 0"),
        (lambda: Trace_ELBO(0), "trace: num_particles is 0: it must be at least 1"),
    ],
)
def test_settings_out_of_range(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


# ---- Pyro's RenyiELBO ----


def test_pyros_renyi_elbo_of_order_zero_is_iwae() -> None:
    s = cached_scenario("one site", False)
    losses, gradients = [], []
    for objective in (pyro_iwae(5), IWAE_ELBO(5)):
        torch.manual_seed(7)
        for p in s.parameters.values():
            p.grad = None
        losses.append(objective.loss_and_grads(s.model, s.guide, s.x))
        gradients.append(torch.cat([p.grad.flatten() for p in s.parameters.values() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_under_a_scaled_plate_iwae_stays_a_bound_and_pyros_does_not() -> None:
    stays_a_bound_under_a_scaled_plate()


def test_in_plain_svi_a_scaled_plate_scales_the_gradient_alone() -> None:
    s = cached_scenario("one site", False)
    for objective in (IWAE_ELBO(5), DReG_ELBO(5), Renyi_ELBO(5), StickingTheLanding_ELBO(), ScoreFunction_ELBO()):
        gradients = []
        for pair in ((s.model, s.guide), (part(s.model), part(s.guide))):
            torch.manual_seed(9)
            for program in pair:
                program.zero_grad()
            with pyro.get_param_store().scope():
                objective.loss_and_grads(*pair, s.x)
            gradients.append(torch.cat([p.grad.flatten() for program in pair for p in program.parameters()]))
        torch.testing.assert_close(gradients[1], Part.size / len(s.x) * gradients[0])


# ---- programs at the edge ----


@pytest.mark.parametrize("how", ["poutine", "distribution"])
@pytest.mark.parametrize("objective", [ScoreFunction_ELBO(4000, baseline=False), Trace_ELBO(4000)], ids=named)
def test_a_masked_latent_that_the_likelihood_sees_has_its_gradient(how: str, objective: Objective) -> None:
    """z ~ N(w, 1) with its log-probabilities masked: ELBO = E log N(x; z, 1), whose slope in w is x − w."""
    w = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def site(loc: Tensor) -> Tensor:
        fn = dist.Normal(loc, 1.0)
        if how == "distribution":
            return pyro.sample("z", fn.mask(torch.tensor(False)))
        with pyro.poutine.mask(mask=torch.tensor(False)):
            return pyro.sample("z", fn)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = site(x.new_zeros(()))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            site(w.expand(x.shape[0]))

    x = torch.tensor([-1.0], dtype=torch.float64)
    torch.manual_seed(10)
    gradients = torch.stack(
        [torch.autograd.grad(objective.estimate(model, guide, (x,)).surrogate.sum(), w)[0] for _ in range(30)]
    )
    assert abs(gradients.mean() - (x.item() - 0.7)) < 4 * gradients.std() / 30**0.5


class Normed(torch.nn.Module):
    """A bottom-up guide with a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(1)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            z1 = pyro.sample("z1", dist.Normal(self.norm(x[:, None])[:, 0], 1.0))
            pyro.sample("z2", dist.Normal(z1, 1.0))


@pytest.mark.parametrize("objective", [StickingTheLanding_ELBO(), DReG_ELBO(3)], ids=named)
def test_one_step_moves_a_batchnorm_once(objective: Objective) -> None:
    guide = Normed().double()
    model = cached_scenario("bottom-up", False).model
    objective.estimate(model, guide, (torch.randn(5, dtype=torch.float64),))
    assert guide.norm.num_batches_tracked == 1


@pytest.mark.parametrize("objective", [ScoreFunction_ELBO(), StickingTheLanding_ELBO()], ids=named)
def test_a_flow_without_an_inverse_is_refused_in_words(objective: Objective) -> None:
    planar = dist.transforms.planar(2)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.TransformedDistribution(dist.Normal(x, 1.0).to_event(1), [planar]))

    with pytest.raises(InputError, match="can't be computed at a fixed draw"):
        objective.estimate(model, guide, (torch.randn(4, 2),))


def test_dropout_is_refused_where_a_second_pass_would_differ() -> None:
    dropout = torch.nn.Dropout(0.5)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z1 = pyro.sample("z1", dist.Normal(dropout(x), 1.0))
            pyro.sample("z2", dist.Normal(z1, 1.0))

    model = cached_scenario("bottom-up", False).model
    with pytest.raises(InputError, match="There is randomness in the guide besides its draws"):
        DReG_ELBO(3).estimate(model, guide, (torch.randn(50, dtype=torch.float64),))
