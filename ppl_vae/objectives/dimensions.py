"""The rate and the mean of q(z|x) of each latent dimension, in one pass over the rows."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from pyro.distributions import constraints
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import describe, support_of
from ppl_vae.objectives.rate import by_dimension, rates_of
from ppl_vae.programs.passes import mean_of
from ppl_vae.programs.scores import Terms, sum_sites

ACTIVE = 0.01  # Var_x(E_q[z|x]) above which a dimension counts as active: Burda, Grosse & Salakhutdinov 2016


class Dimensions(NamedTuple):
    """Of N rows and D dimensions.

    Args:
        names: of the dimensions, such as `z[3]`; the numbers of one datum's inner plates count as dimensions.
        rate: KL(q(z|x) ‖ p(z)) of each row, over all sites of the guide, `(N,)`.
        rate_how: by site, `closed form` or `Monte Carlo (…)`.
        rate_by_dimension: its mean over rows, `(D,)`; NaN without a closed form for each dimension.
        mean_covariance: Cov_x(E_q[z|x]), `(D, D)`; NaN for sites whose support is not all real numbers.
        notes: why there is NaN.
    """

    names: tuple[str, ...]
    rate: Tensor
    rate_how: dict[str, str]
    rate_by_dimension: Tensor
    mean_covariance: Tensor
    notes: tuple[str, ...]


def measure(passes: Iterable[Terms], sites: Iterable[str]) -> Dimensions:
    """Reduce the terms of each batch, K ≥ 2 draws of each row.

    Args:
        passes: the terms of one batch after the other.
        sites: those that have dimensions, in their order.
    """
    sites, notes = list(sites), dict[str, None]()
    rates, total, moments = [], torch.zeros(()), _Covariance()
    how: dict[str, str] = {}
    names: tuple[str, ...] = ()
    for t in passes:
        by_site, how = rates_of(t)
        rates.append(sum_sites(by_site).mean(0).double().cpu())
        values = [_numbers(t.layouts[site].rows_first(t.values[site], t.q[site])) for site in sites]
        names = tuple(name for site, z in zip(sites, values, strict=True) for name in _names(site, z.shape[-1]))
        each = [_rates(site, t, z, notes) for site, z in zip(sites, values, strict=True)]
        total = total + torch.cat(each, -1).mean(0).sum(0)
        moments.add(torch.cat([_means(site, t, z, notes) for site, z in zip(sites, values, strict=True)], -1))
    rate = torch.cat(rates)
    return Dimensions(names, rate, how, total / len(rate), moments.covariance, tuple(notes))


def _numbers(x: Tensor) -> Tensor:
    """`(K, B, ...)` as `(K, B, J)`, in float64."""
    return x.reshape(*x.shape[:2], -1).double().cpu()


def _names(site: str, dimensions: int) -> list[str]:
    return [site] if dimensions == 1 else [f"{site}[{j}]" for j in range(dimensions)]


def _rates(site: str, t: Terms, z: Tensor, notes: dict[str, None]) -> Tensor:
    """The KL of each dimension, `(K, B, J)`; NaN where it has no closed form."""
    try:
        rate = by_dimension(site, t).double().cpu()
    except InputError as error:
        notes[f"rate of each dimension: {error}"] = None
        return torch.full_like(z, torch.nan)
    return rate.expand_as(z) if rate.shape[-1] == z.shape[-1] else torch.full_like(z, torch.nan)


def _means(site: str, t: Terms, z: Tensor, notes: dict[str, None]) -> Tensor:
    """E_q[z_site|·] given the draws before it, `(K, B, J)`: in closed form, or the draws themselves."""
    q, layout = t.q[site], t.layouts[site]
    if support_of(t.p[site]) is not constraints.real:
        kind = describe(t.p[site])
        notes[f"site {site!r}: the variance of E[z|x] is measured for vectors of real numbers, not for a {kind}"] = None
        return torch.full_like(z, torch.nan)
    try:
        mean = mean_of(site, q)
    except InputError:
        return z
    batch_shape = layout.check(mean.shape[: mean.dim() - q.event_dim])
    return _numbers(t.by_row(site, mean.expand(batch_shape + q.event_shape)))


class _Covariance:
    """Cov_x(m_x) of m_x, of which each row gives K unbiased estimates m_xk.

    The covariance over rows of the mean m̄_x of K estimates exceeds that of m_x by the mean of W_x/K, where W_x is the
    covariance of the K estimates of a row. So this much is subtracted; it is 0 where all K are the same.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.origin, self.sum, self.squares, self.within = (torch.zeros(()) for _ in range(4))

    def add(self, m: Tensor) -> None:
        """Add `(K, B, D)`."""
        K, B, _ = m.shape
        mean = m.mean(0)
        if not self.rows:
            self.origin = mean.mean(0)
        spread, noise = mean - self.origin, (m - mean).flatten(0, 1)
        self.rows += B
        self.sum = self.sum + spread.sum(0)
        self.squares = self.squares + spread.T @ spread
        self.within = self.within + noise.T @ noise / (K - 1) / K

    @property
    def covariance(self) -> Tensor:
        between = (self.squares - self.sum.outer(self.sum) / self.rows) / (self.rows - 1)
        return between - self.within / self.rows
