"""A wrong estimator is caught: each planted fault turns a test of `test_estimators.py` red.

Run `pytest tests/objectives/test_faults.py -v` to list fault → test.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from support.estimators import CASES, is_unbiased, leaves_no_noise, stays_a_bound_under_a_scaled_plate
from support.masks import masked_scenario, path_is_whole
from torch import Tensor
from torch.distributions import Normal

from ppl_vae import objectives
from ppl_vae.distributions import kl_rules
from ppl_vae.objectives import rate
from ppl_vae.programs.scores import Terms, log_weight, sum_sites

Per = tuple[Tensor, Tensor]
iwae, dreg, stl = objectives.IWAE_ELBO, objectives.DReG_ELBO, objectives.StickingTheLanding_ELBO


def unbiased(case: str, name: str, K: int, exact: bool = False) -> Callable[[], None]:
    def run() -> None:
        is_unbiased(CASES[case], name, K, exact)

    run.__name__ = f"test_value_and_gradient_are_unbiased[{case}-{name}-{K}-{'exact' if exact else 'wide'}]"
    return run


def no_noise() -> None:
    leaves_no_noise("bottom-up", stl())


no_noise.__name__ = "test_at_the_posterior_no_noise_is_left_in_the_guides_gradient[bottom-up]"


def rule(form: Callable[[Normal, Normal], Tensor]) -> Callable[[pytest.MonkeyPatch], None]:
    """Another rule for KL(Normal ‖ Normal)."""
    return lambda patch: patch.setitem(kl_rules.RULES, (Normal, Normal), form)


def estimator(objective: type, per_example: Callable[[Any, Terms], Per]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(objective, "per_example", per_example)


def no_half(q: Normal, p: Normal) -> Tensor:
    return 2 * kl_rules.normal_normal(q, p)


def log_sigma_for_sigma(q: Normal, p: Normal) -> Tensor:
    return kl_rules.normal_normal(Normal(q.loc, q.scale.log().abs() + 0.1), p)


def sigma_for_log_sigma(q: Normal, p: Normal) -> Tensor:
    return kl_rules.spread(q.scale - p.scale) + ((q.loc - p.loc) / p.scale) ** 2 / 2


def detached_mean(q: Normal, p: Normal) -> Tensor:
    return kl_rules.normal_normal(Normal(q.loc.detach(), q.scale), p)


def mean_for_sum(q: Normal, p: Normal) -> Tensor:
    return kl_rules.normal_normal(q, p) / q.loc.shape[-1]


def turned_around(q: Normal, p: Normal) -> Tensor:
    return kl_rules.normal_normal(p, q)


def no_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rate, "check_order", lambda site, terms: None)


def scale_inside(self: Any, terms: Terms) -> Per:
    value = objectives.iwae.log_mean_exp(terms.scale * log_weight(terms)) / terms.scale
    return value, value


def no_log_k(self: Any, terms: Terms) -> Per:
    value = log_weight(terms).logsumexp(0)
    return value, value


def squared_on_everything(self: Any, terms: Terms) -> Per:
    log_w = log_weight(terms)
    weights = log_w.detach().softmax(0)
    stl = log_w + sum_sites(terms.at_fixed_draws().log_q)
    return objectives.iwae.log_mean_exp(log_w), (weights.square() * stl).sum(0)


def squared_nowhere(self: Any, terms: Terms) -> Per:
    log_w = log_weight(terms)
    stl = log_w + sum_sites(terms.at_fixed_draws().log_q)
    return objectives.iwae.log_mean_exp(log_w), (log_w.detach().softmax(0) * stl).sum(0)


def weights_on_the_guides_own_draws(self: Any, terms: Terms) -> Per:
    """A hook on z weights the way through a later draw twice."""
    log_w = log_weight(terms)
    weights = log_w.detach().softmax(0)
    for z in terms.values.values():  # the node that made the draw
        z.grad_fn.next_functions[0][0].register_prehook(lambda g: (g[0] * weights.reshape(g[0].shape),))
    return objectives.iwae.log_mean_exp(log_w), (weights * (log_w + sum_sites(terms.at_fixed_draws().log_q))).sum(0)


def own_draw_alone_fixed(self: Any, terms: Terms) -> Per:
    """log q of a site at its own fixed draw, but with the gradient to the draws before it."""
    log_w = log_weight(terms)
    fixed = [terms.rows(s, q.log_prob(terms.layouts[s].lift(terms.values[s].detach(), q))) for s, q in terms.q.items()]
    return log_w.mean(0), (log_w + sum(fixed)).mean(0)


def score_kept_twice(self: Any, terms: Terms) -> Per:
    log_w = log_weight(terms)
    return log_w.mean(0), (log_w + 2 * log_w.detach() * sum_sites(terms.at_fixed_draws().log_q)).mean(0)


def baseline_with_the_draw_itself(log_w: Tensor) -> Tensor:
    return log_w.mean(0, keepdim=True).expand_as(log_w)


def floor_under_each_datum(self: Any, terms: Terms) -> Per:
    rates = torch.cat([rate.by_dimension(site, terms) for site in terms.q], -1)
    value = (sum_sites(terms.log_lik) - rates.clamp(min=self.floor).sum(-1)).mean(0)
    return value, value


def order_forgotten(self: Any, terms: Terms) -> Per:
    value = objectives.iwae.log_mean_exp((1 - self.alpha) * log_weight(terms))
    return value, value


def points_scored(self: Any, terms: Terms) -> Per:
    log_w = log_weight(terms)
    return log_w.mean(0), (log_w + sum_sites(terms.at_fixed_draws().log_q)).mean(0)


def points_without_parameters(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(objectives.dreg, "_by_parameters", lambda terms, fixed, weights, log_p: torch.zeros_like(log_p))


def masks_forgotten(self: Any, terms: Terms) -> Per:
    return dreg_per_example(self, dataclasses.replace(terms, counted={}))


dreg_per_example = dreg.per_example


def masked(name: str, K: int) -> Callable[[], None]:
    def run() -> None:
        path_is_whole(masked_scenario(), name, K)

    run.__name__ = f"test_a_masked_element_that_the_likelihood_reads_has_its_whole_path[{K}-{name}]"
    return run


class Fault(NamedTuple):
    plant: Callable[[pytest.MonkeyPatch], None]
    caught_by: Callable[[], None]


FAULTS: dict[str, Fault] = {
    "dropped ½ in the KL": Fault(rule(no_half), unbiased("analytic-kl", "one site", 1)),
    "log σ for σ": Fault(rule(log_sigma_for_sigma), unbiased("analytic-kl", "one site", 1)),
    "σ for log σ": Fault(rule(sigma_for_log_sigma), unbiased("analytic-kl", "one site", 1)),
    "detached μ": Fault(rule(detached_mean), unbiased("analytic-kl", "one site", 1)),
    "mean for sum": Fault(rule(mean_for_sum), unbiased("analytic-kl", "one site", 1)),
    "KL(p ‖ q)": Fault(rule(turned_around), unbiased("analytic-kl", "shared", 1)),
    "per-site KL out of order": Fault(no_order, unbiased("mean-field", "bottom-up", 5)),
    "scale inside the logsumexp": Fault(
        estimator(iwae, scale_inside), stays_a_bound_under_a_scaled_plate
    ),
    "log K dropped": Fault(estimator(iwae, no_log_k), unbiased("iwae", "one site", 5)),
    "w̃² on shared parameters": Fault(estimator(dreg, squared_on_everything), unbiased("dreg", "shared", 5)),
    "w̃ on the path": Fault(estimator(dreg, squared_nowhere), unbiased("dreg", "one site", 5)),
    "w̃ twice through a later draw": Fault(
        estimator(dreg, weights_on_the_guides_own_draws), unbiased("dreg", "bottom-up", 5)
    ),
    "upstream draw not fixed": Fault(estimator(stl, own_draw_alone_fixed), no_noise),  # unbiased, but noisy
    "score function added": Fault(estimator(stl, score_kept_twice), unbiased("sticking-the-landing", "one site", 1)),
    "baseline includes its own draw": Fault(
        lambda patch: patch.setattr(objectives.score_function, "_leave_one_out", baseline_with_the_draw_itself),
        unbiased("score-function", "one site", 5),
    ),
    "free bits per datum": Fault(
        estimator(objectives.FreeBits_ELBO, floor_under_each_datum), unbiased("free-bits", "one site", 1)
    ),
    "a point's log-density taken for a score": Fault(
        estimator(stl, points_scored), unbiased("sticking-the-landing", "change of variables", 1)
    ),
    "w̃² on a point's parameters": Fault(points_without_parameters, unbiased("dreg", "change of variables", 5)),
    "w̃² on a masked path": Fault(estimator(dreg, masks_forgotten), masked("dreg", 5)),
    "1/(1 − α) dropped": Fault(estimator(objectives.Renyi_ELBO, order_forgotten), unbiased("renyi 0.5", "one site", 5)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [pytest.param(f, id=f"{name} → {f.caught_by.__name__}") for name, f in FAULTS.items()]
)
def test_a_planted_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.caught_by()
    fault.plant(monkeypatch)
    with pytest.raises(AssertionError):
        fault.caught_by()
