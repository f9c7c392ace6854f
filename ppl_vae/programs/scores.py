"""The terms that one pass through a guide and a model gives, and the arithmetic that all estimators share."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

import torch
from pyro.distributions import Distribution
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.programs.layout import Layout
from ppl_vae.programs.state import has_numbers

ProgramLike: TypeAlias = Callable[..., Any]
Batch: TypeAlias = tuple[Tensor, ...]
Values: TypeAlias = dict[str, Tensor]


class Fixed(NamedTuple):
    """A guide at fixed draws, as a function of its parameters only. Its points (Deltas) follow from the draws.

    Args:
        log_q: log q of each site, `(K, B)`.
        points: the value of each point, in the shape that it has in the guide.
    """

    log_q: Values
    points: Values


@dataclass(frozen=True)
class Terms:
    """What one pass through guide and model gives, for each site and example, without scales.

    Args:
        log_prior: log p(z_site | ...) of each latent site, `(K, B)`, in the model's order.
        log_lik: log p(x_site | z) of each observed site (and `pyro.factor`), `(K, B)`.
        log_q: log q(z_site | x) of each guide site, `(K, B)`, in the guide's order.
        p: the model's distributions, of latent and observed sites; masked where the program masks them.
        q: the guide's distributions.
        values: the draws, `(K, B, *event)` for a site whose only plate is `data`.
        observed: the data at each observed site, as the model gave it.
        scale: the scale that all sites have (data plate's size over its subsample, `poutine.scale`).
        layouts: for each site, how its batch dimensions map to `(K, B)`; used by `rows`.
        score_function: for each guide site whose draw is not (fully) reparameterized, `(K, B)`: its gradient times the
            log-ratio is the rest of the gradient. No mask applies to it, since a masked site is drawn like any other.
        seen: the draws as the model sees them: tensors of their own, at which only the gradient of log p arrives.
        counted: for each guide site that is masked, which elements of its value log q counts.
        points: the guide's sites that draw nothing at random (Deltas): functions of parameters and other draws.
        guide_at: runs the guide once more, at given draws.
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
        """Arrange `x`, which has the shape of the site's value in its program, as `(K, B, ...)`."""
        layout, fn = self.layouts[site], (self.q | self.p)[site]
        return layout.rows_first(layout.lower(x, fn), fn)

    def weight_paths(self, weights: Tensor) -> None:
        """Multiply by `weights`, `(K, B)`, the gradient of log p that flows into the draws, and not that of its
        parameters.

        The path of a draw through the guide to a later draw is left alone, so that each weight counts once. So are the
        elements whose log q a mask leaves out. Call it once for a pass.
        """
        for site, z in self.seen.items():
            if z.requires_grad:
                spread = self.layouts[site].spread(weights, self.q[site])
                if site in self.counted:
                    spread = torch.where(self.counted[site], spread, 1)
                z.register_hook(lambda gradient, spread=spread: gradient * spread)

    def at_fixed_draws(self) -> Fixed:
        """The guide as a function of its parameters only: no gradient flows to a draw whose log q counts.

        For one site, log q is computed again from its distribution. With several sites, the distribution of a later one
        depends on the draws before it, so that the guide is run once more. Elements that a mask leaves out of log q
        keep their gradient, since they have no score.

        Raises:
            InputError: the second computation gives another log q (dropout), or a flow has no inverse.
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
                f"the guide's density can't be computed at a fixed draw ({error}): use trace or iwae"
            ) from error
        for site, again in found.log_q.items():
            if has_numbers() and not torch.allclose(again, self.log_q[site], rtol=1e-3, atol=1e-3, equal_nan=True):
                raise InputError(
                    f"site {site!r}: log q differs when the same draw is scored again. There is randomness in the "
                    "guide besides its draws (dropout), or the inverse of a flow is imprecise: use trace or iwae"
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
    """The sum over sites, `(K, B)`; a scalar 0 if there are no sites."""
    return reduce(torch.add, log_probs.values()) if log_probs else torch.zeros(())


def as_batch(batch: Tensor | Iterable[Tensor]) -> Batch:
    """The batch as a tuple of tensors. A single tensor is a batch of one field."""
    return (batch,) if isinstance(batch, Tensor) else tuple(batch)


def batches(rows: Batch, batch_size: int) -> Iterator[Batch]:
    """Batches of `batch_size` rows, in the order of the rows."""
    yield from zip(*(field.split(batch_size) for field in rows), strict=True)
