"""Draws, or parts of draws, whose log q has no score to trade: points (Delta), masked elements, auxiliary draws."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from support.masks import OBJECTIVES, masked_scenario, path_is_whole, unknown
from support.naming import named
from support.oracles import Body, Scenario, agree, log_normal, naive, of_objective, tensor
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.objectives import (
    IWAE_ELBO,
    MeanField_ELBO,
    Objective,
    ScoreFunction_ELBO,
    Trace_ELBO,
)
from ppl_vae.programs import score, simulate, terms

STANDARD_ERRORS = 4


every_objective = pytest.mark.parametrize("name", OBJECTIVES)


# ---- a plain point beside a draw, and a point between two draws ----


def point_model(m: Any, x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
    y = pyro.sample("y", dist.Normal(m.a * z, 1.0))
    w = pyro.sample("w", dist.Normal(y, m.r.exp()))
    pyro.sample("x", dist.Normal(m.b * z + y * w, m.s.exp()), obs=x)


def point_guide(g: Any, x: Tensor) -> None:
    """z is drawn, y = f(z) a point with a log-density of its own, and w is drawn around it."""
    z = pyro.sample("z", dist.Normal(g.k * x, g.u.exp()))
    y = pyro.sample("y", dist.Delta(g.d * z + g.e, log_density=g.e * z))
    pyro.sample("w", dist.Normal(g.h * y, g.v.exp()))


def point_log_w(m: Any, g: Any, x: Tensor, ε: Tensor) -> Tensor:
    z = g.k * x + g.u.exp() * ε[..., 0]
    y = g.d * z + g.e
    w = g.h * y + g.v.exp() * ε[..., 1]
    zero = 0 * g.u
    log_p = log_normal(z, 0 * z, zero) + log_normal(y, m.a * z, zero) + log_normal(w, y, m.r)
    log_q = log_normal(z, g.k * x, g.u) + g.e * z + log_normal(w, g.h * y, g.v)
    return log_p + log_normal(x, m.b * z + y * w, m.s) - log_q


@pytest.fixture(scope="module")
def points() -> Scenario:
    return Scenario(
        Body("model", point_model, {"a": 0.4, "r": 0.2, "b": 1.1, "s": -0.1}),
        Body("guide", point_guide, {"k": 0.5, "u": 0.0, "d": 0.6, "e": 0.3, "h": 0.7, "v": 0.3}),
        tensor([1.1, -0.7, 0.2]), unknown, point_log_w, unknown, (1, 1),
    )  # fmt: skip


@pytest.mark.slow
@every_objective
@pytest.mark.parametrize("K", [1, 5])
def test_a_point_has_the_gradients_of_its_value_and_of_its_log_density(points: Scenario, name: str, K: int) -> None:
    make, reduce = OBJECTIVES[name]
    agree(of_objective(points, make(K), seed=2), naive(points, reduce, K, seed=1))


def test_a_point_has_its_log_density_at_its_own_value_and_none_elsewhere(points: Scenario) -> None:
    t = terms(points.model, points.guide, (points.x,), 3)
    again = score(points.model, points.guide, (points.x,), t.values)
    torch.testing.assert_close(again.log_q, t.log_q)
    moved = score(points.model, points.guide, (points.x,), t.values | {"y": t.values["y"] + 1})
    assert (moved.log_q["y"] == -math.inf).all()
    torch.testing.assert_close(moved.log_q["z"], t.log_q["z"])


# ---- masked elements that the likelihood reads ----


@pytest.fixture(scope="module")
def masks() -> Scenario:
    return masked_scenario()


@pytest.mark.slow
@every_objective
@pytest.mark.parametrize("K", [1, 5])
def test_a_masked_element_that_the_likelihood_reads_has_its_whole_path(masks: Scenario, name: str, K: int) -> None:
    path_is_whole(masks, name, K)


@pytest.mark.parametrize("objective", [Trace_ELBO(4000), ScoreFunction_ELBO(4000, baseline=False)], ids=named)
@pytest.mark.parametrize("how", ["under to_event", "by False", "by poutine and to_event"])
@pytest.mark.parametrize("through", ["estimate", "loss"])
def test_a_masked_discrete_draw_that_the_likelihood_reads_has_its_score(
    objective: Objective, how: str, through: str
) -> None:
    """ELBO = Σ_b q(b) [log p(x|b) − the rates that count], by enumeration."""
    logits = torch.tensor([0.3, -0.8], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([how != "by False", False])

    def site(logits: Tensor) -> Tensor:
        fn: Any = dist.Bernoulli(logits=logits)
        if how == "by False":
            return pyro.sample("b", fn.to_event(1).mask(False))
        with poutine.mask(mask=torch.tensor(True)) if "poutine" in how else poutine.block(hide=[]):
            return pyro.sample("b", fn.mask(counts).to_event(1))

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            b = site(x.new_zeros(2))
            pyro.sample("x", dist.Normal(b @ x.new_tensor([1.0, 2.0]), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            site(logits.expand(x.shape[0], 2))

    x = torch.tensor([1.7], dtype=torch.float64)
    every = torch.cartesian_prod(*[x.new_tensor([0.0, 1.0])] * 2)
    q = dist.Bernoulli(logits=logits)
    log_q = q.log_prob(every)
    rate = (torch.where(counts, log_q + math.log(2), 0)).sum(-1)
    inside = dist.Normal(every @ x.new_tensor([1.0, 2.0]), 1.0).log_prob(x) - rate
    (exact,) = torch.autograd.grad((log_q.sum(-1).exp() * inside).sum(), logits)

    def draw() -> Tensor:
        if through == "estimate":
            surrogate = objective.estimate(model, guide, (x,)).surrogate.sum()
        else:
            surrogate = -objective.differentiable_loss(model, guide, x)
        return torch.autograd.grad(surrogate, logits)[0]

    draws = torch.stack([draw() for _ in range(30)])
    assert ((draws.mean(0) - exact).abs() < STANDARD_ERRORS * draws.std(0) / len(draws) ** 0.5).all()


# ---- auxiliary draws ----


def plain_model(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def with_auxiliary(x: Tensor) -> None:
    """p(z|x) = N(x/2, 1/2) as a mixture over u: q(u|x) = N(x/2, 1/4), q(z|u) = N(u, 1/4)."""
    with pyro.plate("data", x.shape[0]):
        u = pyro.sample("u", dist.Normal(x / 2, 0.5), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Normal(u, 0.5))


def auxiliary_model(x: Tensor) -> None:
    """r(u|x, z) = N((x/2 + z)/2, 1/8) is the exact q(u|x, z)."""
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.sample("u", dist.Normal((x / 2 + z) / 2, 0.125**0.5), infer={"is_auxiliary": True})


X = torch.tensor([0.4, -1.3], dtype=torch.float64)


@pytest.mark.parametrize("objective", [make(3) for make, _ in OBJECTIVES.values()], ids=named)
def test_an_auxiliary_draw_that_nothing_balances_is_refused(objective: Objective) -> None:
    with pytest.raises(InputError, match=r"auxiliary draw 'u' has no counterpart.*r\(u\|x, z\).*log_density"):
        objective.loss(plain_model, with_auxiliary, X)


@pytest.mark.parametrize("objective", [o(3) for o, _ in OBJECTIVES.values() if o is not MeanField_ELBO], ids=named)
def test_with_the_exact_auxiliary_model_the_bound_is_log_px(objective: Objective) -> None:
    value = objective.estimate(auxiliary_model, with_auxiliary, (X,)).value
    torch.testing.assert_close(value, dist.Normal(0.0, X.new_tensor(2.0).sqrt()).log_prob(X))


def test_an_auxiliary_model_is_no_part_of_a_simulation() -> None:
    assert set(simulate(auxiliary_model, X)) == {"z", "x"}


@pytest.mark.parametrize(
    ("log_density", "words"),
    [(0.0, r"log_density 0, but −log\|det ∂f/∂u\| of the change of variables from 'u' is -1.386"), (-math.log(4), "")],
)
def test_a_change_of_variables_must_state_its_density(log_density: float, words: str) -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            u = pyro.sample("u", dist.Normal(x.unsqueeze(-1), 1.0).to_event(1), infer={"is_auxiliary": True})
            turned = 4 * u[..., 0]
            pyro.sample("z", dist.Delta(turned, log_density=x.new_full(x.shape, log_density)))

    if words:
        with pytest.raises(InputError, match=words):
            Trace_ELBO().loss(plain_model, guide, X)
    else:
        torch.manual_seed(1)
        value = Trace_ELBO().estimate(plain_model, guide, (X,)).value
        torch.manual_seed(1)
        z = 4 * dist.Normal(X, 1.0).sample()
        by_hand = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 1.0).log_prob(X)
        torch.testing.assert_close(value, by_hand - dist.Normal(4 * X, 4.0).log_prob(z))


def test_two_numbers_do_not_become_one() -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            u = pyro.sample("u", dist.Normal(x.new_zeros(2), 1.0).to_event(1), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(u.sum(-1)))

    with pytest.raises(InputError, match="let a latent follow from it one-to-one"):
        Trace_ELBO().loss(plain_model, guide, X)


# ---- parts of a datum, or of the batch, that a plate leaves out ----


def test_a_plate_that_leaves_out_a_part_of_a_datum_is_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-2), pyro.plate("inner", 10, subsample_size=2, dim=-1) as i:
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, i])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], dim=-2), pyro.plate("inner", 10, subsample_size=2, dim=-1) as i:
            pyro.sample("z", dist.Normal(x[:, i], 1.0))

    for K in (1, 3):
        with pytest.raises(InputError, match="'inner' subsamples 2 of 10 inside one datum"):
            IWAE_ELBO(K).loss(model, guide, torch.zeros(4, 10))


def test_a_plate_that_leaves_out_a_part_of_the_batch_is_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], subsample_size=2) as i:
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[i])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0], subsample_size=2) as i:
            pyro.sample("z", dist.Normal(x[i], 1.0))

    for K in (1, 3):
        with pytest.raises(InputError, match="'data' subsamples 2 of 10 of the batch"):
            IWAE_ELBO(K).loss(model, guide, torch.zeros(10))
