"""Sums over discrete latents: against Pyro's `TraceEnum_ELBO`, exact log p(x), and the draws they replace."""

import math
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from pyro.infer import config_enumerate
from support.runs import binary_rows, fitted
from torch import Tensor, nn

import ppl_vae
from ppl_vae.blocks import concat
from ppl_vae.core.errors import InputError
from ppl_vae.objectives import Trace_ELBO, TraceEnum_ELBO
from ppl_vae.programs import resolve_pair

STANDARD_ERRORS = 4
B, D, C = 4, 6, 3


def categorical() -> tuple[Any, Tensor]:
    x = torch.tensor(binary_rows(B))
    pair = resolve_pair("categorical", "categorical", (x,), {"classes": C, "hidden": 8})
    return pair, x


class Two(nn.Module):
    """a ~ Categorical, b | a ~ Bernoulli, x | a, b; the guide draws b first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.x = (nn.Parameter(torch.randn(*size)) for size in ((C,), (C,), (C, 2, D)))
        self.to_b, self.to_a = nn.Linear(D, 1), nn.Linear(D + 1, C)

    def model(self, x: Tensor) -> None:
        pyro.module("two", self)
        with pyro.plate("data", x.shape[0]):
            a = pyro.sample("a", dist.Categorical(logits=self.a))
            b = pyro.sample("b", dist.Bernoulli(logits=self.b[a]))
            pyro.sample("x", dist.Normal(self.x[a, b.long()], 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("two", self)
        with pyro.plate("data", x.shape[0]):
            b = pyro.sample("b", dist.Bernoulli(logits=self.to_b(x).squeeze(-1)))
            pyro.sample("a", dist.Categorical(logits=self.to_a(concat(x, b.unsqueeze(-1)))))


def both(ours: Any, theirs: Any, model: Any, guide: Any, x: Tensor) -> list[tuple[float, dict[str, Tensor]]]:
    found = []
    for objective in (ours, theirs):
        with pyro.get_param_store().scope():
            loss = objective.differentiable_loss(model, guide, x)
            loss.backward()
            named = pyro.get_param_store().named_parameters()
            found.append((loss.item(), {name: p.grad.clone() for name, p in named if p.grad is not None}))
            for _, p in pyro.get_param_store().named_parameters():
                p.grad = None
    return found


def test_one_site_is_pyros_in_value_and_gradient() -> None:
    pair, x = categorical()
    theirs = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    (value, gradient), (expected, expected_gradient) = both(TraceEnum_ELBO(), theirs, pair.model, pair.guide, x)
    assert value == pytest.approx(expected, rel=1e-5)
    assert gradient.keys() == expected_gradient.keys()
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_two_sites_are_pyros_in_value_and_gradient() -> None:
    two, x = Two(), torch.randn(B, D)
    theirs = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    guide = config_enumerate(two.guide, default="parallel")
    (value, gradient), (expected, expected_gradient) = both(TraceEnum_ELBO(), theirs, two.model, guide, x)
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_it_is_the_expectation_of_trace() -> None:
    two, x = Two(), torch.randn(B, D)
    exact = TraceEnum_ELBO().estimate(two.model, two.guide, (x,)).value
    with torch.no_grad():
        draws = torch.stack([Trace_ELBO(50).estimate(two.model, two.guide, (x,)).value for _ in range(200)])
    z = (draws.mean(0) - exact) / (draws.std(0) / len(draws) ** 0.5)
    assert z.abs().max() < STANDARD_ERRORS


def test_with_the_exact_guide_it_is_log_px() -> None:
    pair, x = categorical()

    def exact_guide(x: Tensor) -> None:
        every = torch.arange(C)
        joint = pair.model.prior(x).log_prob(every) + pair.model.likelihood(every).log_prob(x.unsqueeze(1))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Categorical(logits=joint))

    value = TraceEnum_ELBO().estimate(pair.model, exact_guide, (x,)).value
    torch.testing.assert_close(value, pair.model.log_px(x), rtol=1e-5, atol=1e-5)


def test_fit_check_and_compare_take_it(tmp_path: Path) -> None:
    settings = {"classes": C, "hidden": 8}
    run = fitted(tmp_path, model="categorical", guide="categorical", objective="trace-enum", set=settings, epochs=5)
    valid = [line["valid"] for line in run.metrics]
    assert valid[-1]["elbo"] > valid[0]["elbo"]
    assert all(v["rate"] >= 0 for v in valid), "a KL in truth, and no draw of one"
    found = ppl_vae.compare(run, objectives=["trace-enum", "trace", "score-function"], draws=50)["estimators"]
    assert found["trace-enum"]["variance"] == found["trace-enum"]["gradient_variance"]["guide"] == 0.0
    assert abs(found["trace"]["value"] - found["trace-enum"]["value"]) < STANDARD_ERRORS * found["trace"]["value_se"]
    report = ppl_vae.check("categorical", "categorical", binary_rows(), objective="trace-enum", set=settings)
    assert report.passed


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (dist.Normal(0.0, 1.0), r"site 'z' \(Normal\) has no list of its values, and no other site has"),
        (dist.Normal(0.0, 1.0).has_rsample_(False), r"site 'z' \(Normal\) has no list of its values"),
        (dist.Poisson(1.0), r"site 'z' \(Poisson\) has no list of its values"),
    ],
)
def test_a_site_without_a_list_of_values_is_refused(guide: Any, words: str) -> None:
    def program(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", guide)

    with pytest.raises(InputError, match=words):
        TraceEnum_ELBO().loss(program, program, torch.zeros(2, 1))


def test_too_many_values_and_inner_plates_are_refused() -> None:
    def many(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            for i in range(5):
                pyro.sample(f"z{i}", dist.Categorical(torch.ones(10)))

    def inner(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-2), pyro.plate("inner", 3, dim=-1):
            pyro.sample("z", dist.Bernoulli(0.5))

    for program, words in ((many, "100000 combinations of values"), (inner, "stands in an inner plate")):
        with pytest.raises(InputError, match=words):
            TraceEnum_ELBO().loss(program, program, torch.zeros(2, 1))


@pytest.mark.parametrize("how", ["poutine", "distribution"])
def test_a_masked_latent_is_summed_over_all_the_same(how: str) -> None:
    """Its log-probabilities do not count, its values do: ELBO = Σ_z q(z|x) log p(x|z) on the masked row."""
    mask, logits, means = torch.tensor([True, False]), torch.randn(2, C), torch.randn(C)

    def site(logits: Tensor) -> None:
        fn = dist.Categorical(logits=logits)
        if how == "distribution":
            return pyro.sample("z", fn.mask(mask))
        with pyro.poutine.mask(mask=mask):
            return pyro.sample("z", fn)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = site(torch.zeros(2, C))
            pyro.sample("x", dist.Normal(means[z], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            site(logits)

    x = torch.tensor([0.3, -0.7])
    q = logits.softmax(-1)
    by_hand = (q * dist.Normal(means, 1.0).log_prob(x.unsqueeze(-1))).sum(-1)
    by_hand[0] += -math.log(C) - (q[0] * q[0].log()).sum()
    torch.testing.assert_close(TraceEnum_ELBO().estimate(model, guide, (x,)).value, by_hand)


def test_a_value_of_no_probability_counts_for_nothing() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-2):
            z = pyro.sample("z", dist.Categorical(torch.ones(C)))
            pyro.sample("x", dist.Normal(z.float(), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-2):
            pyro.sample("z", dist.Categorical(logits=torch.tensor([0.0, -math.inf, 0.0])))

    x = torch.tensor([[0.3], [1.2]])  # the plate stands one dimension further left than it must
    log_p = dist.Normal(torch.tensor([0.0, 2.0]), 1.0).log_prob(x).mean(-1) - math.log(C) + math.log(2)
    torch.testing.assert_close(TraceEnum_ELBO().estimate(model, guide, (x,)).value, log_p)


# ---- sums beside draws ----


class Mixed(nn.Module):
    """y ~ Categorical, z | y ~ N(μ_y, I), x | y, z; `first` says which of the two the guide draws first.

    Some labels may be known: y holds them, and −1 for the others.
    """

    def __init__(self, first: str) -> None:
        super().__init__()
        self.first = first
        self.pi, self.mu, self.w = (nn.Parameter(torch.randn(*size)) for size in ((C,), (C, 2), (C, 2, D)))
        self.to_y, self.to_z = nn.Linear(D, C), nn.Linear(D + C, 4)
        self.y_of_z, self.z_alone = nn.Linear(D + 2, C), nn.Linear(D, 4)

    def label(self, fn: Any, y: Tensor | None) -> Tensor:
        if y is None:
            return pyro.sample("y", fn)
        return pyro.sample("y", fn, obs=y.clamp(min=0), obs_mask=y >= 0)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("mixed", self)
        with pyro.plate("data", x.shape[0]):
            label = self.label(dist.Categorical(logits=self.pi), y)
            z = pyro.sample("z", dist.Normal(self.mu[label], 1.0).to_event(1))
            mean = (z.unsqueeze(-2) @ self.w[label]).squeeze(-2)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def draw_z(self, raw: Tensor) -> Tensor:
        loc, log_scale = raw.chunk(2, -1)
        return pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    def draw_y(self, logits: Tensor, y: Tensor | None) -> Tensor:
        if y is None:
            return pyro.sample("y", dist.Categorical(logits=logits))
        with pyro.poutine.mask(mask=y < 0):
            drawn = pyro.sample("y_unobserved", dist.Categorical(logits=logits))
        return torch.where(y >= 0, y, drawn)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("mixed", self)
        with pyro.plate("data", x.shape[0]):
            if self.first == "z":
                z = self.draw_z(self.z_alone(x))
                self.draw_y(self.y_of_z(concat(x, z)), y)
            else:
                label = self.draw_y(self.to_y(x), y)
                self.draw_z(self.to_z(concat(x, nn.functional.one_hot(label, C).to(x.dtype))))


LABELS = torch.tensor([1, -1, 0, -1])


def enumerated(program: Any) -> Any:
    return config_enumerate(program, default="parallel")


@pytest.mark.parametrize("labels", [None, LABELS], ids=["no label", "some labels"])
def test_a_draw_behind_a_sum_is_pyros_in_value_and_gradient(labels: Tensor | None) -> None:
    pair, x = Mixed("y"), torch.randn(B, D)
    batch = (x,) if labels is None else (x, labels)
    found = []
    for objective, guide in ((TraceEnum_ELBO(), pair.guide), (_pyros(), enumerated(pair.guide))):
        torch.manual_seed(3)
        loss = objective.differentiable_loss(pair.model, guide, *batch)
        gradient = torch.autograd.grad(loss, list(pair.parameters()), allow_unused=True, materialize_grads=True)
        found.append((loss.detach(), gradient))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def _pyros() -> Any:
    return pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [None, LABELS], ids=["no label", "some labels"])
@pytest.mark.parametrize("first", ["y", "z"])
def test_sums_beside_draws_have_pyros_mean_in_value_and_gradient(first: str, labels: Tensor | None) -> None:
    pair, rows = Mixed(first), 500
    x = torch.randn(B, D).repeat(rows, 1)
    batch = (x,) if labels is None else (x, labels.repeat(rows))
    means, variances = [], []
    for objective, guide in ((TraceEnum_ELBO(2), pair.guide), (_pyros(), enumerated(pair.guide))):
        draws = []
        for _ in range(60):
            loss = objective.differentiable_loss(pair.model, guide, *batch) / rows
            gradient = torch.autograd.grad(loss, list(pair.parameters()), allow_unused=True, materialize_grads=True)
            draws.append(torch.cat([loss.detach()[None], *(g.flatten() for g in gradient)]))
        stacked = torch.stack(draws)
        means.append(stacked.mean(0))
        variances.append(stacked.var(0) / len(draws))
    z = (means[0] - means[1]) / (variances[0] + variances[1] + 1e-12).sqrt()
    assert z.abs().max() < 5, "of a hundred numbers or so"


def test_a_draw_before_a_sum_is_shared_by_all_its_values() -> None:
    """So the weights of one draw sum to 1, and a constant adds no noise."""
    pair, x = Mixed("z"), torch.randn(B, D)
    estimate = TraceEnum_ELBO(3).estimate(pair.model, pair.guide, (x,))
    z = estimate.terms.values["z"].view(3, C, B, 2)
    assert (z == z[:, :1]).all()
    assert (z[0] != z[1]).any()
    one = TraceEnum_ELBO(3).expect(estimate.terms, torch.ones(3 * C, B))
    torch.testing.assert_close(one, torch.ones(B))


def test_a_guide_that_draws_nothing_has_the_log_likelihood() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        pass

    x = torch.randn(B)
    value = TraceEnum_ELBO().estimate(model, guide, (x,)).value
    torch.testing.assert_close(value, dist.Normal(0.0, 1.0).log_prob(x))
    torch.testing.assert_close(Trace_ELBO(2).estimate(model, guide, (x,)).value, value)
