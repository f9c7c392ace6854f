"""What one pass through a guide and a model yields, and the arithmetic that every estimator shares."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

import torch
from pyro.distributions import Distribution
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.programs.layout import Layout

ProgramLike: TypeAlias = Callable[..., Any]
Batch: TypeAlias = tuple[Tensor, ...]
Values: TypeAlias = dict[str, Tensor]


class Fixed(NamedTuple):
    """A guide at fixed draws: a function of its parameters alone, its points following from the draws.

    Args:
        log_q: of each site, `(K, B)`.
        points: the value of each point, as the guide sees it.
    """

    log_q: Values
    points: Values


@dataclass(frozen=True)
class Terms:
    """What one pass through guide and model yields, per site and example, unscaled.

    Args:
        log_prior: log p(z_site | ...) of each latent site, `(K, B)`, in the model's order.
        log_lik: log p(x_site | z) of each observed site (and `pyro.factor`), `(K, B)`.
        log_q: log q(z_site | x) of each guide site, `(K, B)`, in the guide's order.
        p: the model's distributions, of latent and observed sites; masked where the program masks them.
        q: the guide's distributions.
        values: the draws, `(K, B, *event)` for a site in the plate `data` alone.
        observed: the data at each observed site, as the model gave it.
        scale: the one scale of all sites (data plate's size over its subsample, `poutine.scale`).
        layouts: for each site, how its batch dimensions map to `(K, B)`; used by `rows`.
        score_function: for each guide site whose draw is not (wholly) reparameterized, `(K, B)`: what times the
            log-ratio gives the rest of the gradient. No mask applies to it, for a masked site is drawn all the same.
        seen: the draws as the model saw them: nodes of their own, where a gradient arrives from log p alone.
        counted: for each guide site that is masked, which elements of its value log q counts.
        points: the guide's sites that draw no number at random (a Delta): functions of parameters and other draws.
        guide_at: another pass through the guide, at given draws.
        closed_forms: each site's KL, once `objectives.rate.closed_form` has computed it.
    """

    log_prior: Values
    log_lik: Values
    log_q: Values
    p: dict[str, Distribution]
    q: dict[str, Distribution]
    values: Values
    observed: Values
    scale: float
    layouts: dict[str, Layout]
    score_function: Values
    seen: Values
    counted: dict[str, Tensor]
    points: frozenset[str]
    guide_at: Callable[[Values], Fixed]
    closed_forms: Values = field(default_factory=dict)

    def rows(self, site: str, x: Tensor) -> Tensor:
        """Sum `x`, of the site's batch shape, over inner plates: `(K, B)`."""
        return self.layouts[site].rows(x)

    def by_row(self, site: str, x: Tensor) -> Tensor:
        """`x`, of the shape that the site's value has in its program, as `(K, B, ...)`."""
        layout, fn = self.layouts[site], (self.q | self.p)[site]
        return layout.rows_first(layout.lower(x, fn), fn)

    def weight_paths(self, weights: Tensor) -> None:
        """Multiply by `weights`, `(K, B)`, what flows back from log p into the draws, and not what its parameters get.

        A draw's way through the guide to a later draw is no part of it, so that each weight counts once. Nor are
        elements whose log q a mask leaves out. Once a pass.
        """
        for site, z in self.seen.items():
            if z.requires_grad:
                spread = self.layouts[site].spread(weights, self.q[site])
                if site in self.counted:
                    spread = torch.where(self.counted[site], spread, 1)
                z.register_hook(lambda gradient, spread=spread: gradient * spread)

    def at_fixed_draws(self) -> Fixed:
        """The guide as a function of its parameters alone: no gradient to any draw whose log q counts.

        One site's own distribution will do. With several, a later one's depends on the draws before it, and the guide
        is passed through again. What a mask leaves out of log q keeps its gradient: it has no score to be traded.

        Raises:
            InputError: that pass does not repeat log q (dropout), or a flow has no inverse.
        """
        fixed = {site: self._fixed(site) for site in self.q if site not in self.points}
        try:
            if len(self.q) > 1 or self.points:
                found = self.guide_at(fixed)
            else:
                ((site, q),) = self.q.items()
                layout = self.layouts[site]
                found = Fixed({site: layout.rows(q.log_prob(layout.lift(fixed[site], q)))}, {})
        except (NotImplementedError, KeyError) as error:
            raise InputError(
                f"the guide's density is not known at a fixed draw ({error}): use trace or iwae"
            ) from error
        for site, again in found.log_q.items():
            if not torch.allclose(again, self.log_q[site], rtol=1e-3, atol=1e-3, equal_nan=True):
                raise InputError(
                    f"site {site!r}: log q differs when the same draw is scored again: there is chance in the guide "
                    "beyond its draws (dropout), or the inverse of a flow is imprecise: use trace or iwae"
                )
        return found

    def _fixed(self, site: str) -> Tensor:
        z = self.values[site]
        if site not in self.counted:
            return z.detach()
        layout, q = self.layouts[site], self.q[site]
        counted = self.counted[site].expand(layout.lift(z, q).shape)
        return torch.where(layout.lower(counted, q), z.detach(), z)


def log_weight(terms: Terms) -> Tensor:
    """log w = log p(x, z) − log q(z|x), `(K, B)`."""
    return sum_sites(terms.log_lik) + sum_sites(terms.log_prior) - sum_sites(terms.log_q)


def sum_sites(log_probs: Values) -> Tensor:
    """Σ over sites, `(K, B)`; a scalar 0 where there is none."""
    return reduce(torch.add, log_probs.values()) if log_probs else torch.zeros(())


def as_batch(batch: Tensor | Iterable[Tensor]) -> Batch:
    """A batch as a tuple of tensors; a lone tensor is a batch of one field."""
    return (batch,) if isinstance(batch, Tensor) else tuple(batch)


def batches(rows: Batch, batch_size: int) -> Iterator[Batch]:
    """The rows in order, `batch_size` at a time."""
    yield from zip(*(field.split(batch_size) for field in rows), strict=True)
