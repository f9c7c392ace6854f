"""The ELBO of a discrete latent as a sum over its values: no draw, no noise."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.kl import describe
from ppl_vae.objectives.base import Estimate, Objective
from ppl_vae.programs.passes import score, terms
from ppl_vae.programs.terms import Batch, ProgramLike, Terms, Values, log_weight, sum_sites

MOST_VALUES = 10_000


class TraceEnum_ELBO(Objective):
    """ELBO = Σ_z q(z|x) [log p(x, z) − log q(z|x)], z over every value that the guide's discrete sites can take.

    Bound: the ELBO, exactly. Gradient: exact. A pass takes each row once per value; with several sites, per combination
    of values. Pyro's `TraceEnum_ELBO` can also sum over independent sites apart, and mix sums with draws; where both
    apply they agree.

    Raises:
        InputError: a site of the guide is continuous or has no list of its values, or an inner plate; too many values.
    """

    name: ClassVar[str] = "trace-enum"

    def __init__(self) -> None:
        super().__init__()

    def estimate(self, model: ProgramLike, guide: ProgramLike, batch: Batch) -> Estimate:
        with torch.no_grad():
            values = _every_value(terms(model, guide, batch))
        t = score(model, guide, batch, values, detached=True)
        return Estimate(*self.per_example(t), t)

    def expect(self, terms: Terms, x: Tensor) -> Tensor:
        q = sum_sites(terms.score_function).exp()  # without masks: a masked site is drawn all the same
        return (q * torch.where(q > 0, x, 0)).sum(0)

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        value = self.expect(terms, log_weight(terms))
        return value, value


def _every_value(terms: Terms) -> Values:
    """Each combination of the sites' values, `(K, B, *event)`: the product of their supports."""
    supports = {site: _support(site, terms) for site in terms.q}
    sizes = [len(support) for support in supports.values()]
    if math.prod(sizes) > MOST_VALUES:
        raise InputError(f"trace-enum: the guide's sites take {math.prod(sizes)} values together: use trace")
    grid = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, len(sizes))
    return {
        site: support[index].expand(len(grid), *terms.values[site].shape[1:])
        for (site, support), index in zip(supports.items(), grid.T, strict=True)
    }


def _support(site: str, terms: Terms) -> Tensor:
    """The values of one site, `(S, 1, ..., *event)`, as many dimensions as a value has."""
    q, dims = terms.q[site], terms.values[site].dim() - 1
    if len(terms.layouts[site].plates) > 1:
        raise InputError(f"trace-enum: the guide's site {site!r} stands in an inner plate: use trace")
    try:
        return q.enumerate_support(expand=False).reshape(-1, *[1] * (dims - q.event_dim), *q.event_shape)
    except NotImplementedError as error:
        raise InputError(
            f"trace-enum: the guide's site {site!r} ({describe(q)}) has no list of its values: use trace"
        ) from error
