"""Are ranks uniform? The ECDF test with its simultaneous bands, Holm's correction, and the shape in words."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

NOTICED = 3.0  # standard errors from which a slope or a U shape is named


def p_values(ranks: Tensor, draws: int, repeats: int) -> Tensor:
    """The p-value of each quantity's uniformity: ranks `(S, M)` in 0, ..., L to `(M,)`.

    The number of ranks below i is binomial, Bin(S, i/(L + 1)), i = 1, ..., L. The statistic γ is the smallest of their
    two-sided tail probabilities, and p is the probability of one as small, by `repeats` simulations of uniform ranks:
    p = (1 + #{γ' ≤ γ}) / (1 + repeats).

    Source: Säilynoja, Bürkner & Vehtari 2022.
    """
    tails = _tails(len(ranks), draws)
    null = _null(len(ranks), draws, repeats)
    found = _smallest_tail(tails, counts(ranks, draws))
    return (1 + torch.searchsorted(null, found, right=True)) / (1 + len(null))


def bands(simulations: int, draws: int, level: float, repeats: int) -> tuple[Tensor, Tensor]:
    """Between which the fractions of ranks below i, i = 1, ..., L, all stay with probability 1 − level: two `(L,)`."""
    tails = _tails(simulations, draws)
    null = _null(simulations, draws, repeats)
    inside = tails >= null[int(level * (len(null) + 1)) - 1]
    low = inside.double().argmax(0)
    high = simulations - inside.flip(0).double().argmax(0)
    return low / simulations, high / simulations


def counts(ranks: Tensor, draws: int) -> Tensor:
    """How many ranks are below i, i = 1, ..., L: `(S, M)` to `(M, L)`."""
    each = torch.stack([torch.bincount(column, minlength=draws + 1) for column in ranks.T])
    return each.cumsum(-1)[:, :-1]


def holm(p: Tensor) -> Tensor:
    """p-values corrected for their number, `(M,)`: the chance of any false alarm is the level at most (Holm 1979)."""
    order = p.argsort()
    factors = torch.arange(len(p), 0, -1, dtype=p.dtype)
    corrected = torch.empty_like(p)
    corrected[order] = (p[order] * factors).cummax(0).values.clamp(max=1)
    return corrected


def slope_and_spread(ranks: Tensor, draws: int) -> tuple[float, float]:
    """By how many standard errors the mean of ranks `(S,)`, and their squared distance from the middle, are too large.

    A large mean says that q draws too low, a large spread (a U shape) that q is too narrow, a small one too wide.
    """
    each = torch.arange(draws + 1, dtype=torch.float64) - draws / 2
    x = ranks - draws / 2
    mean = x.mean() / each.square().mean().sqrt()
    spread = (x.square().mean() - each.square().mean()) / each.square().std(correction=0)
    root = len(ranks) ** 0.5
    return (root * mean).item(), (root * spread).item()


def _tails(simulations: int, draws: int) -> Tensor:
    """2 min(P(R ≤ r), P(R ≥ r)), R ~ Bin(S, i/(L + 1)), for r = 0, ..., S and i = 1, ..., L: `(S + 1, L)`."""
    z = torch.arange(1, draws + 1, dtype=torch.float64) / (draws + 1)
    r = torch.arange(simulations + 1, dtype=torch.float64).unsqueeze(-1)
    whole = torch.tensor(simulations + 1.0, dtype=torch.float64).lgamma()
    log_pmf = whole - (r + 1).lgamma() - (simulations - r + 1).lgamma() + r * z.log() + (simulations - r) * (-z).log1p()
    pmf = log_pmf.exp()
    return 2 * torch.minimum(pmf.cumsum(0), pmf.flip(0).cumsum(0).flip(0))


def _smallest_tail(tails: Tensor, below: Tensor) -> Tensor:
    return tails[below, torch.arange(tails.shape[1])].amin(-1)


@cache
def _null(simulations: int, draws: int, repeats: int) -> Tensor:
    """γ of uniform ranks, sorted. The same numbers each time, whatever the seed, so that p and the bands agree."""
    tails = _tails(simulations, draws)
    generator = np.random.default_rng(0)
    found = []
    for start in range(0, repeats, 10_000):
        size = min(10_000, repeats - start)
        each = generator.multinomial(simulations, np.full(draws + 1, 1 / (draws + 1)), size)
        found.append(_smallest_tail(tails, torch.from_numpy(each.cumsum(-1)[:, :-1])))
    return torch.cat(found).sort().values
