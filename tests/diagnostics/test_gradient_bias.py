"""A biased gradient under a right value is found; sound ones are not accused."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from support.oracles import cached_scenario
from torch import Tensor

from ppl_vae.diagnostics.advice import FALSE_ALARMS
from ppl_vae.diagnostics.compare import compare_estimators
from ppl_vae.diagnostics.estimators import named
from ppl_vae.diagnostics.projections import PROJECTIONS, Projections, differences, log_p
from ppl_vae.objectives import DReG_ELBO, StickingTheLanding_ELBO, Trace_ELBO
from ppl_vae.objectives.iwae import log_mean_exp
from ppl_vae.programs import Pair
from ppl_vae.programs.scores import log_weight, sum_sites


@pytest.fixture
def wide() -> tuple[Pair, Tensor]:
    s = cached_scenario("one site", False)
    return Pair(s.model, s.guide, {}, "guide"), s.x.repeat(20, 1)


class Unsquared(DReG_ELBO):
    """w̃ in place of w̃² on the path of each draw."""

    name = "unsquared"

    def per_example(self, terms: Any) -> tuple[Tensor, Tensor]:
        log_w = log_weight(terms)
        weights = log_w.detach().softmax(0)
        log_p = sum_sites(terms.log_lik) + sum_sites(terms.log_prior)
        log_q = sum_sites(terms.log_q) - sum_sites(terms.at_fixed_draws().log_q)
        return log_mean_exp(log_w), (weights * (log_p - log_q)).sum(0)


class DoubledGuide(StickingTheLanding_ELBO):
    """The guide's gradient twice, by weights of 2 on every path."""

    name = "doubled"

    def per_example(self, terms: Any) -> tuple[Tensor, Tensor]:
        value, _ = super().per_example(terms)
        terms.weight_paths(torch.full_like(log_weight(terms), 2.0))
        log_p = sum_sites(terms.log_lik) + sum_sites(terms.log_prior)
        log_q = sum_sites(terms.log_q) - sum_sites(terms.at_fixed_draws().log_q)
        return value, (log_p - 2 * log_q).mean(0)


@pytest.mark.parametrize(("planted", "target"), [(Unsquared(5), "IWAE_5"), (DoubledGuide(), "ELBO")])
def test_a_biased_gradient_is_found_where_the_value_is_right(wide: Any, planted: Any, target: str) -> None:
    pair, x = wide
    estimators = {"planted": planted} | named(["dreg:K=5", "iwae:K=5", "trace", "sticking-the-landing"])
    found = compare_estimators(pair, estimators, (x,), batch_size=30, draws=100).asdict()
    e = found["estimators"]["planted"]
    assert e["target"] == target
    assert abs(e["bias"]["z"]) < 4, "the value is right"
    assert e["gradient_bias"]["p"] < 1e-6
    assert e["gradient_bias"]["t"]["guide"] > 6
    assert e["gradient_bias"]["t"]["model"] < 4.5, "the model's is sound"
    assert "the guide's gradient of planted is biased (|t| = " in found["advice"]
    sound = [name for name in estimators if name != "planted"]
    assert all(found["estimators"][name]["gradient_bias"]["p"] > FALSE_ALARMS / 5 for name in sound)
    assert not any(f"gradient of {name}" in found["advice"] for name in sound)


def test_sound_estimators_are_not_accused(wide: Any) -> None:
    """No p below what Bonferroni allows it: at 1e-3 in all; and P(p < 0.05) is 0.05 at most, within its error."""
    pair, x = wide
    specs = ["trace", "analytic-kl", "score-function", "score-function:baseline=False", "iwae:K=5", "dreg:K=5"]
    ps = []
    for seed in range(8):
        found = compare_estimators(pair, named(specs), (x[:10],), batch_size=10, draws=100, seed=seed).asdict()
        ps += [e["gradient_bias"]["p"] for e in found["estimators"].values()]
        assert "biased" not in found["advice"]
    share = np.mean([p < 0.05 for p in ps])
    assert share <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / len(ps))


def test_two_gradients_without_noise_may_differ_by_rounding() -> None:
    own = torch.ones(30, 2, PROJECTIONS, dtype=torch.float64)
    t, _ = differences(own, own + 1e-7)
    assert t.abs().max() < 0.1
    t, logs = differences(own, own + 1e-2)
    assert t.abs().min() > 500
    assert logs.max() < math.log(1e-10)
    assert differences(0 * own, 0 * own)[0].abs().max() == 0, "a group without parameters"


@pytest.mark.parametrize("df", [19.0, 50.0, 198.0])
def test_the_tail_is_students(df: float) -> None:
    t = torch.tensor([0.5, 2.0, 5.0, 8.0], dtype=torch.float64)
    exact = np.log(2) + scipy.stats.t.logsf(t.numpy(), df)
    np.testing.assert_allclose(log_p(t, torch.tensor(df).double()), exact, atol=0.05)


def test_a_projection_is_a_weighted_sum() -> None:
    trained = {"model.a": torch.zeros(3, 2), "guide.b": torch.zeros(5), "model.c": torch.zeros(1)}
    projections = Projections(trained)
    gradient = [torch.randn_like(p) for p in trained.values()]
    weighted = torch.cat([gradient[0].flatten(), gradient[2]]) * projections.weights["model"]
    dealt = [weighted[i::PROJECTIONS].sum().item() for i in range(PROJECTIONS)]
    assert projections(gradient)[0].tolist() == pytest.approx(dealt, rel=1e-5)
    assert projections(gradient).shape == (2, PROJECTIONS)


def test_the_value_alone_does_not_see_it(wide: Any) -> None:
    """The planted estimators take the value of the sound ones at each draw."""
    pair, x = wide
    for planted, sound in ((Unsquared(5), DReG_ELBO(5)), (DoubledGuide(), Trace_ELBO())):
        values = []
        for objective in (planted, sound):
            torch.manual_seed(0)
            values.append(objective.estimate(pair.model, pair.guide, (x,)).value)
        torch.testing.assert_close(*values)


def test_skewed_draws_are_not_accused() -> None:
    """Draws as skewed as those of REINFORCE on one row against symmetric ones of the same mean, 100 000 pairs."""
    generator = np.random.default_rng(0)
    skewed = torch.from_numpy(generator.gamma(1.0, size=(100, 100_000, 1)) - 1)  # a skewness of 2
    other = torch.from_numpy(0.3 * generator.normal(size=(100, 100_000, 1)))
    _, logs = differences(skewed, other)
    assert logs.min() > math.log(FALSE_ALARMS / 100_000)
