"""Every likelihood with its exact counterpart. One line of LIKELIHOODS adds a likelihood to every test."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ppl_vae.blocks import likelihoods

Shape = tuple[int, ...]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def real() -> tuple[Tensor, Tensor]:
    u = torch.arange(-150, 150, 2e-3, dtype=torch.float64)
    return u, torch.full_like(u, 2e-3)


def positive() -> tuple[Tensor, Tensor]:
    u = torch.arange(-20, 20, 1e-3, dtype=torch.float64)
    return u.exp(), u.exp() * 1e-3


def unit() -> tuple[Tensor, Tensor]:
    u = torch.arange(-30, 30, 1e-3, dtype=torch.float64)
    return u.sigmoid(), u.sigmoid() * (-u).sigmoid() * 1e-3


def numbers(n: int, step: float = 1.0) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (torch.arange(n, dtype=torch.float64) * step, torch.ones(n, dtype=torch.float64))


def location_scale(family: Any, *first: float) -> Callable[..., Any]:
    return lambda p, loc, s: family(*first, loc=loc, scale=p.floor + softplus(s))


def discretized(p: Any, raw: float) -> Callable[[np.ndarray], np.ndarray]:
    μ, s, h = 0.5 + raw / 4, (p.floor + p.log_scale.exp().item()) / 4, 0.5 / 255

    def logpmf(x: np.ndarray) -> np.ndarray:
        upper = np.where(x > 1 - h, 1.0, stats.logistic.cdf(x + h, μ, s))
        lower = np.where(x < h, 0.0, stats.logistic.cdf(x - h, μ, s))
        return np.log(upper - lower)

    return logpmf


def negative_binomial(p: Any, raw: float) -> Any:
    θ, μ = p.log_theta.exp().item(), softplus(raw) + 1e-6
    return stats.nbinom(θ, θ / (θ + μ))


def zero_inflated(p: Any, raw: float, gate: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.log(sigmoid(gate) * (x == 0) + sigmoid(-gate) * negative_binomial(p, raw).pmf(x))


def ordinal(p: Any, raw: float) -> Any:
    cuts = p.first.item() + np.append(0, np.cumsum([softplus(g) + 1e-3 for g in p.gaps.tolist()]))
    return stats.rv_discrete(values=(range(len(cuts) + 1), np.diff([0, *(sigmoid(c - raw) for c in cuts), 1])))


def scale_of(p: Any, x: np.ndarray) -> np.ndarray:
    """c(x) of a shaped likelihood of one number."""
    knots, (left, right) = p.knots.numpy(), p.slopes.tolist()
    heights = p.first.item() + np.append(0, np.cumsum([softplus(r) + 1e-4 for r in p.rises.tolist()]))
    beyond = left * np.minimum(x - knots[0], 0) + right * np.maximum(x - knots[-1], 0)
    return np.interp(x, knots, heights) + beyond


def shaped(p: Any, raw: float) -> Callable[[np.ndarray], np.ndarray]:
    h = 1e-4
    slope = lambda x: (scale_of(p, x) - scale_of(p, x - h)) / h  # noqa: E731
    return lambda x: stats.norm.logpdf(scale_of(p, x), raw) + np.log(slope(x))


def whole(p: Any, raw: float) -> Callable[[np.ndarray], np.ndarray]:
    below = lambda x: np.where(x < 0, 0, stats.norm.cdf(scale_of(p, x), raw))  # noqa: E731
    return lambda x: np.log(below(x + 0.5) - below(x - 0.5))


def counts(shape: Shape) -> Tensor:
    return torch.distributions.Poisson(torch.full(shape, 4.0)).sample((200,))


class Case(NamedTuple):
    make: Callable[[Shape], Any]
    points: Callable[[], tuple[Tensor, Tensor]]
    outside: tuple[float, ...]
    """Values that are not in the support."""

    exact: Callable[..., Any] | None = None
    has_mean: bool = True

    def likelihood(self, shape: Shape = (), dtype: torch.dtype = torch.float64) -> Any:
        likelihood = self.make(shape).to(dtype)
        with torch.no_grad():
            for p in likelihood.parameters():
                p.add_(0.3 * torch.randn_like(p))
        return likelihood


L = likelihoods


LIKELIHOODS: dict[str, Case] = {
    "Bernoulli": Case(L.Bernoulli, numbers(2), (0.5, -1.0, math.nan), lambda _, a: stats.bernoulli(sigmoid(a))),
    "ContinuousBernoulli": Case(L.ContinuousBernoulli, unit, (-0.01, 1.01)),
    "Beta": Case(L.Beta, unit, (0.0, 1.0, -0.5), lambda _, a, b: stats.beta(softplus(a) + 1e-3, softplus(b) + 1e-3)),
    "Categorical": Case(
        lambda shape: L.Categorical(shape, 4),
        numbers(4),
        (0.5, 4.0, -1.0),
        lambda _, *a: stats.rv_discrete(values=(range(4), np.exp(a) / np.exp(a).sum())),
        has_mean=False,
    ),
    "Ordinal": Case(lambda shape: L.Ordinal(shape, 4), numbers(4), (0.5, 4.0, -1.0), ordinal, False),
    "Ordinal of two": Case(lambda shape: L.Ordinal(shape, 2), numbers(2), (0.5, 2.0), ordinal, False),
    "Gaussian": Case(lambda shape: L.Gaussian(shape, "datum"), real, (math.nan,), location_scale(stats.norm)),
    "Gaussian, fixed": Case(lambda shape: L.Gaussian(shape, 0.5), real, (), lambda _, a: stats.norm(a, 0.5)),
    "Gaussian, shared": Case(L.Gaussian, real, (), lambda p, a: stats.norm(a, p.floor + p.log_scale.exp().item())),
    "Gaussian, dimension": Case(lambda shape: L.Gaussian(shape, "dimension"), real, ()),
    "Laplace": Case(lambda shape: L.Laplace(shape, "datum"), real, (), location_scale(stats.laplace)),
    "StudentT": Case(
        lambda shape: L.StudentT(shape, "datum"),
        real,
        (),
        lambda p, a, s: stats.t(1 + p.log_df.exp().item(), a, p.floor + softplus(s)),
    ),
    "LogNormal": Case(
        lambda shape: L.LogNormal(shape, "datum"),
        positive,
        (0.0, -1.0),
        lambda p, a, s: stats.lognorm(p.floor + softplus(s), scale=math.exp(a)),
    ),
    "DiscretizedLogistic": Case(
        L.DiscretizedLogistic, numbers(256, 1 / 255), (0.5 / 255, 256 / 255, -1 / 255), discretized
    ),
    "DiscretizedLogistic, integers": Case(
        lambda shape: L.DiscretizedLogistic(shape, "datum", levels=16, high=15), numbers(16), (0.5, 16.0, -1.0)
    ),
    "DiscretizedLogisticMixture": Case(
        lambda shape: L.DiscretizedLogisticMixture(shape, 3), numbers(256, 1 / 255), (0.5 / 255, 256 / 255)
    ),
    "Binomial": Case(
        lambda shape: L.Binomial(shape, 7), numbers(8), (8.0, 0.5, -1.0), lambda _, a: stats.binom(7, sigmoid(a))
    ),
    "Poisson": Case(L.Poisson, numbers(60), (-1.0, 0.5), lambda _, a: stats.poisson(softplus(a) + 1e-6)),
    "NegativeBinomial": Case(L.NegativeBinomial, numbers(400), (-1.0, 0.5), negative_binomial),
    "Shaped": Case(lambda shape: L.Shaped(shape, torch.randn(200, *shape)), real, (math.nan, math.inf), shaped),
    "Shaped, whole": Case(
        lambda shape: L.Shaped(shape, counts(shape), whole=True), numbers(400), (-1.0, 0.5, math.nan), whole
    ),
    "ZeroInflatedNegativeBinomial": Case(L.ZeroInflatedNegativeBinomial, numbers(400), (-1.0, 0.5), zero_inflated),
}
