"""Every objective with its exact value, or a naive estimator that knows nothing of Pyro."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pyro
import torch
from pyro.infer import ELBO, RenyiELBO
from support.oracles import (
    Average,
    Body,
    Exact,
    agree,
    cached_naive,
    cached_scenario,
    closed,
    of_objective,
)
from torch import Tensor

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

FLOOR = 0.08


def elbo(exact: Exact) -> Tensor:
    return exact.elbo


def beta(exact: Exact) -> Tensor:
    return exact.log_lik - 2.5 * exact.rates.sum(-1)


def free_bits(exact: Exact) -> Tensor:
    return exact.log_lik - exact.rates.mean(0).clamp(min=FLOOR).sum() * torch.ones_like(exact.log_lik)


def iwae(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


def renyi_half(log_w: Tensor) -> Tensor:
    return 2 * (log_w / 2).exp().mean(1).log()


def renyi_two(log_w: Tensor) -> Tensor:
    return -(-log_w).exp().mean(1).log()


def mean(log_w: Tensor) -> Tensor:
    return log_w.mean(1)


class Case(NamedTuple):
    make: Callable[[int], Objective]
    closed_form: Callable[[Exact], Tensor] | None = None
    reduce: Callable[[Tensor], Tensor] | None = None
    """The value as a function of log w `(R, K, B)`, where it is one."""

    def truth(self, name: str, exact: bool, K: int) -> Average:
        if self.closed_form is not None:
            return closed(cached_scenario(name, exact), self.closed_form)
        assert self.reduce is not None
        return cached_naive(name, exact, self.reduce, K)


CASES: dict[str, Case] = {
    "trace": Case(Trace_ELBO, elbo, mean),
    "analytic-kl": Case(AnalyticKL_ELBO, elbo),
    "mean-field": Case(MeanField_ELBO, elbo),
    "score-function": Case(ScoreFunction_ELBO, elbo, mean),
    "score-function, no baseline": Case(lambda K: ScoreFunction_ELBO(K, baseline=False), elbo, mean),
    "sticking-the-landing": Case(StickingTheLanding_ELBO, elbo, mean),
    "iwae": Case(IWAE_ELBO, reduce=iwae),
    "dreg": Case(DReG_ELBO, reduce=iwae),
    "renyi 0.5": Case(Renyi_ELBO, reduce=renyi_half),
    "renyi 2": Case(lambda K: Renyi_ELBO(K, alpha=2.0), reduce=renyi_two),
    "beta": Case(lambda K: Beta_ELBO(K, beta=2.5), beta),
    "free-bits": Case(lambda K: FreeBits_ELBO(K, floor=FLOOR), free_bits),
}


IN_ORDER = {"analytic-kl", "free-bits"}
"""These need the guide to draw the model's sites in the model's order, and refuse the bottom-up one and a Delta."""


class Part(Body):
    """As `Body`, but the batch is a part of `size` rows, and says so by a subsampling plate."""

    size = 60

    def forward(self, x: Tensor) -> None:
        pyro.module(self.name, self)
        with pyro.plate("data", self.size, subsample=torch.arange(x.shape[0])):
            self.body(self, x)


def part(body: Body) -> Part:
    return Part(body.name, body.body, dict(body.named_parameters()))


def pyro_iwae(K: int) -> RenyiELBO:
    return RenyiELBO(alpha=0, num_particles=K, vectorize_particles=True, max_plate_nesting=1)


# ---- what a right estimator does: asserted by test_estimators.py, and untrue of each fault of test_faults.py ----


def is_unbiased(case: Case, name: str, K: int, exact: bool) -> None:
    agree(of_objective(cached_scenario(name, exact), case.make(K), seed=2), case.truth(name, exact, K))


def leaves_no_noise(name: str, objective: Objective) -> None:
    s = cached_scenario(name, True)
    others = {("shared", "guide.w"), ("change of variables", "guide.t"), ("change of variables", "guide.c")}
    own = [p for key, p in s.parameters.items() if key.startswith("guide.") and (name, key) not in others]

    def per_datum(objective: Objective) -> Tensor:
        surrogate = objective.estimate(s.model, s.guide, (s.x,)).surrogate
        return torch.stack(
            [torch.cat([g.flatten() for g in torch.autograd.grad(v, own, retain_graph=True)]) for v in surrogate]
        )

    assert per_datum(objective).abs().max() < 1e-10
    assert per_datum(Trace_ELBO(objective.num_particles)).abs().max() > 0.05


def stays_a_bound_under_a_scaled_plate() -> None:
    """log p of all rows is, in expectation over batches, their number over the batch's times the batch's log p(x)."""
    s = cached_scenario("one site", False)
    pair = part(s.model), part(s.guide)
    truth = Part.size / len(s.x) * s.log_px(s.model, s.x).sum().item()
    elbo = Part.size / len(s.x) * s.exact(s.model, s.guide, s.x).elbo.sum().item()

    def mean_and_se(objective: ELBO) -> tuple[float, float]:
        torch.manual_seed(8)
        values = torch.tensor([-objective.loss(*pair, s.x) for _ in range(400)])
        return values.mean().item(), values.std().item() / len(values) ** 0.5

    ours, se = mean_and_se(IWAE_ELBO(50))
    assert elbo + 4 * se < ours < truth + 4 * se
    assert truth - ours < 0.2 * (truth - elbo), "with 50 samples most of the gap is closed"
    pyros, se = mean_and_se(pyro_iwae(50))
    assert pyros > truth + 4 * se
