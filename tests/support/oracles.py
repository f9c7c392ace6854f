"""Small Gaussian VAEs whose ELBO is known in closed form, and naive estimators that know nothing of Pyro.

Three scenarios: one site; a hierarchy whose guide draws bottom-up; a prior that uses the guide's encoder. Each with the
exact posterior as its guide, or with a wrong and wide one. `Scenario.check` holds an objective to the exact answer.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from scipy import stats
from torch import Tensor, nn

from ppl_vae.objectives import Objective

STANDARD_ERRORS = 4
PROJECTIONS, FALSE_ALARM, PRECISION = 20, 1e-4, 0.02
ROUNDING = 1e-9
CHUNK, LEAST, MOST = 1000, 40, 4000


class Body(nn.Module):
    """A program that is a function of its float64 parameters and the batch."""

    def __init__(self, name: str, body: Callable[[Any, Tensor], None], values: Mapping[str, Any]) -> None:
        super().__init__()
        self.name, self.body = name, body
        for key, value in values.items():
            self.register_parameter(key, nn.Parameter(torch.as_tensor(value, dtype=torch.float64).clone()))

    def forward(self, x: Tensor) -> None:
        pyro.module(self.name, self)
        with pyro.plate("data", x.shape[0]):
            self.body(self, x)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def log_normal(x: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    return -0.5 * ((x - mean) / log_sd.exp()) ** 2 - log_sd - 0.5 * math.log(2 * math.pi)


def expected_log_normal(mean: Tensor, variance: Tensor, log_sd: Tensor) -> Tensor:
    """E log N(y; 0, σ²) for y of this mean and variance."""
    return -0.5 * (mean**2 + variance) / (2 * log_sd).exp() - log_sd - 0.5 * math.log(2 * math.pi)


class Exact(NamedTuple):
    """Closed forms per datum, differentiable: E_q log p(x|z), and KL(q ‖ p) by dimension, `(B, J)`."""

    log_lik: Tensor
    rates: Tensor

    @property
    def elbo(self) -> Tensor:
        return self.log_lik - self.rates.sum(-1)


class Scenario(NamedTuple):
    model: Body
    guide: Body
    x: Tensor
    exact: Callable[[Any, Any, Tensor], Exact]
    log_w: Callable[[Any, Any, Tensor, Tensor], Tensor]
    """log w by hand: of model, guide, x `(B, ...)` and ε `(R, K, B, J)`; returns `(R, K, B)`."""
    log_px: Callable[[Any, Tensor], Tensor]
    noise: tuple[int, ...]
    """How many normal numbers each site of the guide takes, in its order."""

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        programs = {"model": self.model, "guide": self.guide}
        return {f"{kind}.{name}": p for kind, program in programs.items() for name, p in program.named_parameters()}

    def gradient(self, scalar: Tensor) -> Tensor:
        """With respect to all parameters, as one vector."""
        found = torch.autograd.grad(scalar, list(self.parameters.values()), allow_unused=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in found])


# ---- one site ----


def one_model(m: Any, x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z @ m.V + m.c, m.s.exp()).to_event(1), obs=x)


def one_guide(g: Any, x: Tensor) -> None:
    pyro.sample("z", dist.Normal(x @ g.A + g.a, g.u.exp()).to_event(1))


def one_exact(m: Any, g: Any, x: Tensor) -> Exact:
    mean, variance = x @ g.A + g.a, (2 * g.u).exp()
    log_lik = expected_log_normal(x - mean @ m.V - m.c, (variance[:, None] * m.V**2).sum(0), m.s).sum(-1)
    return Exact(log_lik, 0.5 * (mean**2 + variance - 1 - 2 * g.u))


def one_log_w(m: Any, g: Any, x: Tensor, ε: Tensor) -> Tensor:
    mean = x @ g.A + g.a
    z = mean + g.u.exp() * ε
    log_p = log_normal(x, z @ m.V + m.c, m.s).sum(-1) + log_normal(z, 0 * z, 0 * g.u).sum(-1)
    return log_p - log_normal(z, mean, g.u).sum(-1)


def one_log_px(m: Any, x: Tensor) -> Tensor:
    covariance = m.V.T @ m.V + (2 * m.s).exp() * torch.eye(3, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(m.c, covariance).log_prob(x)


def one(exact: bool) -> Scenario:
    V, c, s = tensor([[0.9, 0.6, 0.0], [-0.4, 0.6, 1.2]]), tensor([0.3, -0.2, 0.1]), -0.3
    assert abs(V[0] @ V[1]) < 1e-15, "orthogonal rows make the posterior a diagonal normal"
    precision = 1 + V.square().sum(-1) / math.exp(2 * s)
    A = V.T / math.exp(2 * s) / precision
    values = {"A": A, "a": -c @ A, "u": -0.5 * precision.log()}
    if not exact:
        values = {"A": 0.5 * A + 0.1, "a": values["a"] + 0.3, "u": values["u"] + math.log(1.6)}
    x = tensor([[0.5, -1.0, 0.8], [-1.2, 0.3, 0.4], [0.1, 0.9, -1.5]])
    return Scenario(
        Body("model", one_model, {"V": V, "c": c, "s": s}),
        Body("guide", one_guide, values),
        x, one_exact, one_log_w, one_log_px, (2,),
    )  # fmt: skip


# ---- two levels, drawn bottom-up: z1 | x, then z2 | z1, where the model has z2, then z1 | z2 ----


def two_model(m: Any, x: Tensor) -> None:
    z2 = pyro.sample("z2", dist.Normal(m.t, 1.0))
    z1 = pyro.sample("z1", dist.Normal(m.a * z2, m.r.exp()))
    pyro.sample("x", dist.Normal(m.b * z1, m.s.exp()), obs=x)


def two_guide(g: Any, x: Tensor) -> None:
    z1 = pyro.sample("z1", dist.Normal(g.k * x + g.k0, g.u.exp()))
    pyro.sample("z2", dist.Normal(g.h * z1 + g.h0, g.v.exp()))


def two_exact(m: Any, g: Any, x: Tensor) -> Exact:
    mean, u, v = g.k * x + g.k0, (2 * g.u).exp(), (2 * g.v).exp()
    log_lik = expected_log_normal(x - m.b * mean, m.b**2 * u, m.s)
    slope = 1 - m.a * g.h
    log_p1 = expected_log_normal(slope * mean - m.a * g.h0, slope**2 * u + m.a**2 * v, m.r)
    log_p2 = expected_log_normal(g.h * mean + g.h0 - m.t, g.h**2 * u + v, 0 * m.t)
    entropy = g.u + g.v + math.log(2 * math.pi * math.e)
    return Exact(log_lik, (-entropy - log_p1 - log_p2).unsqueeze(-1))


def two_log_w(m: Any, g: Any, x: Tensor, ε: Tensor) -> Tensor:
    z1 = g.k * x + g.k0 + g.u.exp() * ε[..., 0]
    z2 = g.h * z1 + g.h0 + g.v.exp() * ε[..., 1]
    log_p = log_normal(x, m.b * z1, m.s) + log_normal(z1, m.a * z2, m.r) + log_normal(z2, m.t, 0 * m.t)
    return log_p - log_normal(z1, g.k * x + g.k0, g.u) - log_normal(z2, g.h * z1 + g.h0, g.v)


def two_log_px(m: Any, x: Tensor) -> Tensor:
    variance = m.b**2 * (m.a**2 + (2 * m.r).exp()) + (2 * m.s).exp()
    return log_normal(x, m.b * m.a * m.t, 0.5 * variance.log())


def two(exact: bool) -> Scenario:
    t, a, r, b, s = 0.4, 0.8, -0.4, 1.3, -0.2
    prior = a**2 + math.exp(2 * r)  # of z1, its variance
    precision1 = 1 / prior + b**2 / math.exp(2 * s)
    precision2 = 1 + a**2 / math.exp(2 * r)
    g = {
        "k": b / math.exp(2 * s) / precision1, "k0": a * t / prior / precision1, "u": -0.5 * math.log(precision1),
        "h": a / math.exp(2 * r) / precision2, "h0": t / precision2, "v": -0.5 * math.log(precision2),
    }  # fmt: skip
    if not exact:
        g = {"k": 0.6 * g["k"], "k0": 0.2, "u": g["u"] + 0.5, "h": 0.5 * g["h"], "h0": -0.1, "v": g["v"] + 0.4}
    return Scenario(
        Body("model", two_model, {"t": t, "a": a, "r": r, "b": b, "s": s}),
        Body("guide", two_guide, g),
        tensor([1.1, -0.7, 0.2]), two_exact, two_log_w, two_log_px, (1, 1),
    )  # fmt: skip


# ---- a prior that uses the guide's encoder, as a VampPrior does: p(z) = N(w u, e^2c), q(z|x) = N(w x + d, e^2v) ----


def shared(exact: bool) -> Scenario:
    u, c, b, s = 0.7, -0.1, 1.2, -0.2
    precision = math.exp(-2 * c) + b**2 / math.exp(2 * s)
    w = b / math.exp(2 * s) / precision
    values = {"w": w, "d": w * u * math.exp(-2 * c) / precision, "v": -0.5 * math.log(precision)}
    if not exact:
        values = {"w": 0.6 * w, "d": -0.2, "v": values["v"] + 0.5}

    def guide(g: Any, x: Tensor) -> None:
        pyro.sample("z", dist.Normal(g.w * x + g.d, g.v.exp()))

    guide_ = Body("guide", guide, values)

    def model(m: Any, x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(guide_.w * m.u, m.c.exp()))
        pyro.sample("x", dist.Normal(m.b * z, m.s.exp()), obs=x)

    def exact_(m: Any, g: Any, x: Tensor) -> Exact:
        mean, variance = g.w * x + g.d, (2 * g.v).exp()
        rate = -g.v - 0.5 * math.log(2 * math.pi * math.e) - expected_log_normal(mean - g.w * m.u, variance, m.c)
        return Exact(expected_log_normal(x - m.b * mean, m.b**2 * variance, m.s), rate.unsqueeze(-1))

    def log_w(m: Any, g: Any, x: Tensor, ε: Tensor) -> Tensor:
        z = g.w * x + g.d + g.v.exp() * ε[..., 0]
        log_p = log_normal(x, m.b * z, m.s) + log_normal(z, g.w * m.u, m.c)
        return log_p - log_normal(z, g.w * x + g.d, g.v)

    def log_px(m: Any, x: Tensor) -> Tensor:
        return log_normal(x, m.b * guide_.w * m.u, 0.5 * (m.b**2 * (2 * m.c).exp() + (2 * m.s).exp()).log())

    return Scenario(
        Body("model", model, {"u": u, "c": c, "b": b, "s": s}), guide_,
        tensor([1.1, -0.7, 0.2]), exact_, log_w, log_px, (1,),
    )  # fmt: skip


# ---- a change of variables: u ~ N(k x + k0, e^2v) is auxiliary, z = e^t u + c a Delta with the density of that ----


def changed_model(m: Any, x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
    pyro.sample("x", dist.Normal(m.b * z, m.s.exp()), obs=x)


def changed_guide(g: Any, x: Tensor) -> None:
    u = pyro.sample("u", dist.Normal(g.k * x + g.k0, g.v.exp()), infer={"is_auxiliary": True})
    pyro.sample("z", dist.Delta(g.t.exp() * u + g.c, log_density=-g.t.expand(u.shape)))


def changed_exact(m: Any, g: Any, x: Tensor) -> Exact:
    mean, log_sd = g.t.exp() * (g.k * x + g.k0) + g.c, g.t + g.v
    rate = 0.5 * (mean**2 + (2 * log_sd).exp() - 1 - 2 * log_sd)
    return Exact(expected_log_normal(x - m.b * mean, m.b**2 * (2 * log_sd).exp(), m.s), rate.unsqueeze(-1))


def changed_log_w(m: Any, g: Any, x: Tensor, ε: Tensor) -> Tensor:
    u = g.k * x + g.k0 + g.v.exp() * ε[..., 0]
    z = g.t.exp() * u + g.c
    return log_normal(x, m.b * z, m.s) + log_normal(z, 0 * z, 0 * g.v) - log_normal(u, g.k * x + g.k0, g.v) + g.t


def changed_log_px(m: Any, x: Tensor) -> Tensor:
    return log_normal(x, 0 * x, 0.5 * (m.b**2 + (2 * m.s).exp()).log())


def changed(exact: bool) -> Scenario:
    b, s, t, c = 1.3, -0.2, 0.4, -0.3
    precision = 1 + b**2 / math.exp(2 * s)
    slope = b / math.exp(2 * s) / precision
    g = {"k": slope / math.exp(t), "k0": -c / math.exp(t), "v": -0.5 * math.log(precision) - t, "t": t, "c": c}
    if not exact:
        g = g | {"k": 0.6 * g["k"], "k0": 0.1, "v": g["v"] + 0.5}
    return Scenario(
        Body("model", changed_model, {"b": b, "s": s}), Body("guide", changed_guide, g),
        tensor([1.1, -0.7, 0.2]), changed_exact, changed_log_w, changed_log_px, (1,),
    )  # fmt: skip


SCENARIOS: dict[str, Callable[[bool], Scenario]] = {
    "one site": one,
    "bottom-up": two,
    "shared": shared,
    "change of variables": changed,
}


# ---- averages, with their standard errors ----


class Average(NamedTuple):
    """Mean over many draws of the value, summed over rows, and of its gradient; with standard errors."""

    value: float
    value_se: float
    gradient: Tensor
    chunks: Tensor
    """`(C, P)`: the gradients that were averaged, each over many draws."""

    @property
    def gradient_se(self) -> float:
        """Of the whole vector: the root of the summed squared standard errors."""
        return (self.chunks.var(0).sum() / len(self.chunks)).sqrt().item()


def average(one_chunk: Callable[[], tuple[Tensor, Tensor]], seed: int) -> Average:
    """Chunks until the standard error of the gradient is 2 % of its norm; at least 40."""
    torch.manual_seed(seed)
    values, gradients = [], []
    while True:
        value, gradient = one_chunk()
        values.append(value)
        gradients.append(gradient)
        if len(values) >= LEAST and len(values) % 10 == 0:
            v, g = torch.stack(values), torch.stack(gradients)
            found = Average(v.mean().item(), (v.std() / len(v) ** 0.5).item(), g.mean(0), g)
            if found.gradient_se <= PRECISION * found.gradient.norm() or found.gradient.norm() < ROUNDING:
                return found
            assert len(values) < MOST, f"SE {found.gradient_se:.3g} of a gradient of norm {found.gradient.norm():.3g}"


def of_objective(scenario: Scenario, objective: Objective, seed: int) -> Average:
    x = scenario.x.repeat(CHUNK, *[1] * (scenario.x.dim() - 1))

    def chunk() -> tuple[Tensor, Tensor]:
        estimate = objective.estimate(scenario.model, scenario.guide, (x,))
        gradient = scenario.gradient(estimate.surrogate.sum() / CHUNK)
        return estimate.value.detach().sum() / CHUNK, gradient

    return average(chunk, seed)


def naive(scenario: Scenario, reduce: Callable[[Tensor], Tensor], K: int, seed: int) -> Average:
    """E Σ_rows reduce(log w), log w by hand, and its gradient by plain autograd along the draws."""

    def chunk() -> tuple[Tensor, Tensor]:
        ε = torch.randn(CHUNK, K, len(scenario.x), sum(scenario.noise), dtype=torch.float64)
        value = reduce(scenario.log_w(scenario.model, scenario.guide, scenario.x, ε)).mean(0).sum()
        return value.detach(), scenario.gradient(value)

    return average(chunk, seed)


def closed(scenario: Scenario, function: Callable[[Exact], Tensor]) -> Average:
    """An exact answer as an average without error."""
    value = function(scenario.exact(scenario.model, scenario.guide, scenario.x)).sum()
    gradient = scenario.gradient(value)
    return Average(value.item(), 0.0, gradient, gradient.expand(2, -1))


def agree(got: Average, truth: Average) -> None:
    """Value within 4 standard errors; gradient in 20 fixed random projections, all together at 1e-4.

    Raises:
        AssertionError: they differ.
    """
    scale = max(1.0, abs(truth.value))
    se = math.hypot(got.value_se, truth.value_se)
    error = abs(got.value - truth.value)
    assert error <= STANDARD_ERRORS * se + ROUNDING * scale, f"value {got.value:.5f}, not {truth.value:.5f} ± {se:.2g}"
    generator = torch.Generator().manual_seed(20)
    directions = torch.randn(PROJECTIONS, len(truth.gradient), generator=generator, dtype=torch.float64)
    directions = nn.functional.normalize(directions, dim=-1)
    apart = directions @ (got.gradient - truth.gradient)
    ses = sum((average.chunks @ directions.T).var(0) / len(average.chunks) for average in (got, truth)).sqrt()
    allowed = stats.t.isf(FALSE_ALARM / PROJECTIONS / 2, len(got.chunks) - 1)
    excess = apart.abs() - allowed * ses - ROUNDING * max(1.0, truth.gradient.norm().item())
    assert (excess <= 0).all(), f"gradient {got.gradient.tolist()}, not {truth.gradient.tolist()}"


@cache
def cached_scenario(name: str, exact: bool) -> Scenario:
    return SCENARIOS[name](exact)


@cache
def cached_naive(name: str, exact: bool, reduce: Callable[[Tensor], Tensor], K: int) -> Average:
    return naive(cached_scenario(name, exact), reduce, K, seed=1)
