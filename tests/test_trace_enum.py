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
from runs_for_tests import binary_rows, fitted
from torch import Tensor, nn

import ppl_vae
from ppl_vae.blocks import concat
from ppl_vae.errors import InputError
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
        (dist.Normal(0.0, 1.0), r"site 'z' \(Normal\) has no list of its values"),
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

    for program, words in ((many, "100000 values together"), (inner, "stands in an inner plate")):
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
