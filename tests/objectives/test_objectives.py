"""Objectives against Pyro's, against exact answers, and against their own definition."""

from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import support.programs as programs
import torch
from support.naming import named
from support.programs import CONVOLUTION, PAIRS, B, Case, D, Z, normal, rows, write
from torch import Tensor, nn

from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.guides import linear_gaussian as exact_guide
from ppl_vae.models import linear_gaussian
from ppl_vae.objectives import AnalyticKL_ELBO, Objective, Trace_ELBO
from ppl_vae.programs import resolve, terms

every_pair = pytest.mark.parametrize("case", PAIRS.values(), ids=PAIRS.keys())
every_k = pytest.mark.parametrize("K", [1, 5])
CONTINUOUS = {name: o for name, o in objectives.OBJECTIVES.items() if o is not objectives.TraceEnum_ELBO}
every_objective = pytest.mark.parametrize("objective", CONTINUOUS.values(), ids=CONTINUOUS.keys())
closed = {name: case for name, case in PAIRS.items() if case.closed_form}
EXACT = 1e-8
STANDARD_ERRORS = 4


def gradients(loss: Tensor, *pair: nn.Module) -> dict[str, Tensor]:
    named = {f"{i}.{n}": p for i, module in enumerate(pair) for n, p in module.named_parameters()}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found, strict=True)}


def value_and_gradients(objective: Any, pair: tuple[nn.Module, nn.Module], x: Tensor) -> tuple[Tensor, Any]:
    torch.manual_seed(1)
    loss = objective.differentiable_loss(*pair, x)
    return loss.detach(), gradients(loss, *pair)


# ---- trace ----


def pyro_trace(K: int, nesting: int) -> Any:
    return pyro.infer.Trace_ELBO(num_particles=K, vectorize_particles=True, max_plate_nesting=nesting)


@every_k
@every_pair
def test_trace_is_pyros_in_value_and_every_gradient(case: Case, K: int) -> None:
    pair, x = case.make(), case.data()
    loss, grads = value_and_gradients(pyro_trace(K, case.nesting), pair, x)
    ours = Trace_ELBO(K)
    torch.testing.assert_close(value_and_gradients(ours, pair, x), (loss, grads), rtol=1e-5, atol=1e-4)

    torch.manual_seed(1)
    assert ours.loss(*pair, x) == pytest.approx(loss.item(), rel=1e-5)

    torch.manual_seed(1)
    assert ours.loss_and_grads(*pair, x) == pytest.approx(loss.item(), rel=1e-5)
    for i, module in enumerate(pair):
        for name, p in module.named_parameters():
            got = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(got, grads[f"{i}.{name}"], rtol=1e-5, atol=1e-4)

    torch.manual_seed(1)
    estimate = ours.estimate(*pair, (x,))
    assert estimate.value.shape == estimate.surrogate.shape == (B,)
    torch.testing.assert_close(-case.scale * estimate.value.sum(), loss, rtol=1e-5, atol=1e-4)
    surrogate = gradients(-case.scale * estimate.surrogate.sum(), *pair)
    torch.testing.assert_close(surrogate, grads, rtol=1e-4, atol=1e-4)


def test_trace_is_a_pyro_trace_elbo() -> None:
    assert issubclass(Trace_ELBO, pyro.infer.Trace_ELBO)


def test_one_trace_serves_pairs_of_different_nesting_and_uses_the_generator_for_draws_alone() -> None:
    objective = Trace_ELBO(5)
    for name in ("two", "inner right", "inner left", "deep"):
        case = PAIRS[name]
        pair, x = case.make(), case.data()
        once, again = (value_and_gradients(objective, pair, x)[0] for _ in range(2))
        assert once == again


def test_trace_repeats_rows_for_a_program_that_takes_no_samples() -> None:
    pair, x = CONVOLUTION.make(), CONVOLUTION.data()
    objective = Trace_ELBO(5)
    loss, grads = value_and_gradients(objective, pair, x)
    torch.manual_seed(1)
    estimate = objective.estimate(*pair, (x,))
    torch.testing.assert_close(-estimate.value.sum(), loss)
    torch.testing.assert_close(gradients(-estimate.surrogate.sum(), *pair), grads, rtol=1e-4, atol=1e-5)


def test_score_function_gradient_of_a_masked_draw_that_the_likelihood_sees_is_that_of_the_exact_elbo() -> None:
    """b's log-probabilities are masked, b is drawn and seen: ELBO = E_b log N(x; b, 1), in closed form."""

    def model(m: Any, x: Tensor) -> None:
        with rows(x):
            with pyro.poutine.mask(mask=False):
                b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(m: Any, x: Tensor) -> None:
        with rows(x), pyro.poutine.mask(mask=False):
            pyro.sample("b", dist.Bernoulli(logits=m.s))

    pair, x = write(model, guide), torch.tensor([2.0])
    s = pair[1].s
    p = s.sigmoid()
    (exact,) = torch.autograd.grad(
        p * dist.Normal(1.0, 1.0).log_prob(x[0]) + (1 - p) * dist.Normal(0.0, 1.0).log_prob(x[0]), s
    )
    (g,) = torch.autograd.grad(Trace_ELBO(4000).estimate(*pair, (x,)).surrogate.sum(), s)
    weights = dist.Normal(torch.tensor([0.0, 1.0]), 1.0).log_prob(x)  # of b = 0 and b = 1, times the score b − p
    se = (weights * (torch.tensor([0.0, 1.0]) - p.detach())).std() / 4000**0.5
    assert abs(g - exact) < STANDARD_ERRORS * se


# ---- analytic KL ----


@pytest.mark.parametrize("case", closed.values(), ids=closed.keys())
def test_analytic_kl_is_pyros_mean_field_elbo_in_value_and_gradient(case: Case) -> None:
    pair, x = case.make(), case.data()
    expected = value_and_gradients(pyro.infer.TraceMeanField_ELBO(max_plate_nesting=case.nesting), pair, x)
    torch.testing.assert_close(value_and_gradients(AnalyticKL_ELBO(), pair, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*closed, "full"])
def test_analytic_kl_has_the_expectation_of_trace(name: str) -> None:
    case = PAIRS[name]
    pair, x = case.make(), case.data()
    draws, analytic, trace = 100, AnalyticKL_ELBO(), Trace_ELBO()
    with torch.no_grad():
        passes = [terms(*pair, x, 20) for _ in range(draws)]
        difference = torch.stack([analytic.per_example(t)[0] - trace.per_example(t)[0] for t in passes]).sum(-1)
    assert difference.std() > 0
    assert abs(difference.mean()) < STANDARD_ERRORS * difference.std() / draws**0.5


@pytest.mark.parametrize("objective", [Trace_ELBO(), AnalyticKL_ELBO(), AnalyticKL_ELBO(5)], ids=named)
def test_a_scaled_plate_scales_the_loss(objective: Objective) -> None:
    def pair(factor: float) -> tuple[Any, Any]:
        return tuple(pyro.poutine.scale(f, factor) for f in (plain_model, plain_guide))

    x, losses = torch.randn(B, D), []
    for factor in (1.0, 10.0):
        torch.manual_seed(1)
        losses.append(objective.loss(*pair(factor), x))
    assert losses[1] == pytest.approx(10 * losses[0])


@every_k
def test_estimate_is_unscaled(K: int) -> None:
    pair, x = PAIRS["scaled"].make(), torch.randn(B, D)
    estimate = AnalyticKL_ELBO(K).estimate(*pair, (x,))
    torch.testing.assert_close(estimate.value, value_without_scale(estimate.terms), rtol=1e-5, atol=1e-5)


def value_without_scale(t: Any) -> Tensor:
    kl = torch.distributions.kl_divergence(t.q["z"].base_dist, t.p["z"].base_dist).sum(-1)
    return (t.log_lik["x"] - kl).mean(0)


class Apart(Objective):
    """Its surrogate is not its value."""

    target = "nothing"

    def per_example(self, terms: Any) -> tuple[Tensor, Tensor]:
        value = terms.log_lik["x"].mean(0)
        return value, 3 * value + 1


def test_the_loss_is_minus_the_value_and_has_the_gradient_of_the_surrogate() -> None:
    pair, x = PAIRS["scaled"].make(), torch.randn(B, D)
    loss, grads = value_and_gradients(Apart(5), pair, x)
    torch.manual_seed(1)
    estimate = Apart(5).estimate(*pair, (x,))
    torch.testing.assert_close(loss, -10 * estimate.value.sum())
    torch.testing.assert_close(grads, gradients(-10 * estimate.surrogate.sum(), *pair))


# ---- exact answers ----


@pytest.fixture
def linear() -> tuple[nn.Module, nn.Module, Tensor]:
    model = linear_gaussian.Model((D,), Z).double()
    nn.init.normal_(model.b)
    nn.init.constant_(model.log_sigma, -0.3)
    return model, exact_guide.Guide((D,), model), torch.randn(B, D, dtype=torch.float64)


@every_k
def test_trace_with_the_exact_guide_is_log_px_with_no_variance(linear: Any, K: int) -> None:
    model, guide, x = linear
    values = torch.stack([Trace_ELBO(K).estimate(model, guide, (x,)).value for _ in range(20)])
    assert (values - model.log_px(x)).abs().max() < EXACT


def test_log_px_is_the_density_of_the_marginal_normal(linear: Any) -> None:
    model, _, x = linear
    covariance = model.W @ model.W.T + (2 * model.log_sigma).exp() * torch.eye(D, dtype=torch.float64)
    expected = dist.MultivariateNormal(model.b, covariance).log_prob(x)
    assert (model.log_px(x) - expected).abs().max() < EXACT


def test_analytic_kl_with_the_exact_guide_averages_to_log_px(linear: Any) -> None:
    model, guide, x = linear
    with torch.no_grad():
        values = torch.stack([AnalyticKL_ELBO(10).estimate(model, guide, (x,)).value for _ in range(400)])
    error = (values.mean(0) - model.log_px(x)) / (values.std(0) / len(values) ** 0.5)
    assert error.abs().max() < STANDARD_ERRORS


# ---- in anyone's training loop ----


def plain_model(x: Tensor) -> None:
    v = pyro.param("v", torch.ones(Z, D))
    sigma = pyro.param("sigma", torch.ones(()), constraint=dist.constraints.positive)
    with rows(x):
        z = pyro.sample("z", normal(torch.zeros(Z)))
        pyro.sample("x", dist.Normal(z @ v, sigma).to_event(1), obs=x)


encoder = nn.Linear(D, Z)


def plain_guide(x: Tensor) -> None:
    pyro.module("encoder", encoder)
    with rows(x):
        pyro.sample("z", normal(encoder(x)))


@every_k
@every_objective
def test_an_objective_trains_plain_functions_in_svi(objective: type[Objective], K: int) -> None:
    x = torch.randn(B, D) * 3
    svi = pyro.infer.SVI(plain_model, plain_guide, pyro.optim.Adam({"lr": 0.05}), objective(K))
    losses = [svi.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    store = pyro.get_param_store()
    assert set(store) == {"v", "sigma", "encoder$$$weight", "encoder$$$bias"}
    assert store["sigma"] != 1
    assert (store["v"] != 1).any()


@every_objective
def test_an_objective_trains_modules_in_svi(objective: type[Objective]) -> None:
    pair, x = programs.vae_gaussian(), torch.randn(B, D) * 3
    before = [p.clone() for module in pair for p in module.parameters()]
    svi = pyro.infer.SVI(*pair, pyro.optim.Adam({"lr": 0.05}), objective())
    svi.step(x)
    after = [p for module in pair for p in module.parameters()]
    assert all((a != b).any() for a, b in zip(after, before, strict=True))


@every_objective
@pytest.mark.parametrize("given", ["modules", "functions"])
def test_an_objective_is_a_module_for_any_optimizer(objective: type[Objective], given: str) -> None:
    x = torch.randn(B, D) * 3
    specs = {"modules": ("gaussian:Model", "diagonal_normal:Guide"), "functions": (plain_model, plain_guide)}[given]
    loss = objective()(*(resolve(spec, data=x) for spec in specs))
    before = [p.clone() for p in loss.parameters()]
    assert before
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    loss(x).backward()
    optimizer.step()
    assert all((a != b).any() for a, b in zip(loss.parameters(), before, strict=True))
    assert not pyro.get_param_store().keys() & {"v", "sigma"}


# ---- what is refused ----


def mixture_model(m: Any, x: Tensor) -> None:
    with rows(x):
        parts = dist.Normal(torch.randn(4, Z), 1.0).to_event(1)
        z = pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(logits=torch.zeros(4)), parts))
        pyro.sample("x", normal(z @ m.v), obs=x)


def auxiliary_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        u = pyro.sample("u", normal(x @ m.w), infer={"is_auxiliary": True})
        pyro.sample("z", normal(u))


def turned_guide(m: Any, x: Tensor) -> None:
    with rows(x):
        pyro.sample("b", dist.Normal(x.sum(-1), 0.7))
        pyro.sample("a", normal(x @ m.w))


REFUSED = {
    "mixture prior": (mixture_model, programs.guide, r"site 'z'.*Normal.*MixtureSameFamily"),
    "Categorical": (programs.categorical_model, programs.categorical_guide, "'c' has no reparameterized"),
    "has_rsample_(False)": (programs.two_model, programs.scored_guide, "'b' has no reparameterized"),
    "auxiliary": (programs.model, auxiliary_guide, "auxiliary draw 'u' has no counterpart"),
    "masked in one": (programs.model, programs.masked(programs.guide), r"site 'z'.*masked"),
    "another order": (programs.two_model, turned_guide, "the guide draws b, a but the model a, b"),
}


@every_k
@pytest.mark.parametrize(("model", "guide", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_analytic_kl_refuses_what_has_no_closed_form(model: Any, guide: Any, says: str, K: int) -> None:
    with pytest.raises(InputError, match=says) as refusal:
        AnalyticKL_ELBO(K).loss(*write(model, guide), torch.randn(B, D))
    assert len(str(refusal.value).splitlines()) <= 2


def chain_model(x: Tensor) -> None:
    """top ~ N(0, 1), z | top ~ N(top, 1), x | z ~ N(z, 1): x ~ N(0, 3)."""
    with rows(x):
        top = pyro.sample("top", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
        z = pyro.sample("z", dist.Normal(top, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def bottom_up(x: Tensor) -> None:
    """The exact posterior, drawn as p(z|x) p(top|z): z | x ~ N(2x/3, 2/3), top | z ~ N(z/2, 1/2)."""
    with rows(x):
        z = pyro.sample("z", dist.Normal(2 * x / 3, (2 / 3) ** 0.5))
        pyro.sample("top", dist.Normal(z / 2, 0.5**0.5))


def test_summing_kls_per_site_would_be_wrong_for_a_bottom_up_guide() -> None:
    x = torch.randn(B, dtype=torch.float64)
    log_px = dist.Normal(0.0, torch.tensor(3.0).double().sqrt()).log_prob(x)
    K = 4000
    exact = Trace_ELBO(K).estimate(chain_model, bottom_up, (x,))
    assert (exact.value - log_px).abs().max() < EXACT

    t = exact.terms
    kl = {site: torch.distributions.kl_divergence(t.q[site], t.p[site]) for site in t.q}
    per_site = t.log_lik["x"] - sum(kl.values())
    z = (per_site.mean(0) - log_px) / (per_site.std(0) / K**0.5)
    assert (z.abs() > 10).all(), "the per-site sum would have been right: this test shows nothing"

    with pytest.raises(InputError, match="the guide draws z, top but the model top, z"):
        AnalyticKL_ELBO().loss(chain_model, bottom_up, x)


@every_objective
def test_an_objective_passes_keywords_on(objective: type[Objective]) -> None:
    x, losses = torch.randn(B, D), []
    for loss in (
        lambda: objective(3).loss(shifted_model, shifted_guide, x, shift=0.5),
        lambda: objective(3).loss(partial(shifted_model, shift=0.5), partial(shifted_guide, shift=0.5), x),
    ):
        torch.manual_seed(1)
        losses.append(loss())
    assert losses[0] == losses[1]


# ---- what Pyro's constructors take ----


def shifted_model(x: Tensor, *, shift: float) -> None:
    with rows(x):
        z = pyro.sample("z", normal(torch.zeros(Z)))
        pyro.sample("x", normal(z @ torch.ones(Z, D) + shift), obs=x)


def shifted_guide(x: Tensor, *, shift: float) -> None:
    with rows(x):
        pyro.sample("z", normal(encoder(x) + shift))


@every_k
@pytest.mark.parametrize("vectorize", [True, False])
def test_trace_takes_keywords_as_pyros_does(K: int, vectorize: bool) -> None:
    x, losses = torch.randn(B, D), []
    options = {"vectorize_particles": vectorize, "max_plate_nesting": 1, "strict_enumeration_warning": False}
    for objective in (pyro.infer.Trace_ELBO(K, **options), Trace_ELBO(K, **options)):
        torch.manual_seed(1)
        losses.append(objective.differentiable_loss(shifted_model, shifted_guide, x, shift=0.5))
    torch.testing.assert_close(*losses)
    torch.manual_seed(1)
    unsaid = Trace_ELBO(K, vectorize_particles=vectorize).loss(shifted_model, shifted_guide, x, shift=0.5)
    assert unsaid == pytest.approx(losses[0].item(), rel=1e-5)


@every_objective
def test_every_objective_takes_pyros_options(objective: type[Objective]) -> None:
    x = torch.randn(B, D)
    own = objective(num_particles=3, vectorize_particles=False, max_plate_nesting=1, retain_graph=True)
    own.loss_and_grads(*PAIRS["gaussian"].make(), x)
    with pytest.raises(TypeError, match="num_particle"):
        objective(num_particle=3)


@every_objective
def test_repeated_rows_are_samples(objective: type[Objective]) -> None:
    """One value per example, whichever way the K samples are arranged."""
    x = torch.randn(B, D)
    estimate = objective(num_particles=3, vectorize_particles=False).estimate(*PAIRS["gaussian"].make(), (x,))
    assert estimate.value.shape == (B,)
    assert estimate.terms.log_q["z"].shape == (3, B)


class Slope(nn.Module):
    """A guide that takes a step along a gradient of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(D, Z))

    def forward(self, x: Tensor) -> None:
        loc = (x @ self.w).clone()
        (slope,) = torch.autograd.grad(loc.square().sum(), loc, create_graph=True)
        with rows(x):
            pyro.sample("z", normal(loc - 0.1 * slope))


@every_objective
def test_a_guide_may_differentiate_while_its_plates_are_found(objective: type[Objective]) -> None:
    model, _ = PAIRS["gaussian"].make()
    assert objective(num_particles=3).estimate(model, Slope(), (torch.randn(B, D),)).value.shape == (B,)


def test_get_finds_objectives_and_knows_what_was_meant() -> None:
    assert objectives.get("trace") is Trace_ELBO
    with pytest.raises(InputError, match="did you mean 'analytic-kl'"):
        objectives.get("analytic_kl")
