"""The latents of a batch as vectors of real numbers, in which a posterior can be integrated, optimized and walked in.

Every latent site has coordinates u ∈ R^n without bounds, z = z(u), by its support; the coordinates of all sites stand
side by side in one vector of D numbers per datum. Densities are those of u: log p(x, z(u)) + log |∂z/∂u|, which
integrates over u to the same p(x).

- Real numbers: u = z. Positive numbers, intervals, the simplex: `biject_to`.
- The unit sphere in R^n: u = r z, where the radius r is an auxiliary latent, r ~ χ_n in the model and in the guide. It
  says nothing of x, so that p(x) stays the same, and a uniform z makes u ~ N(0, I).
- The logarithm of a point of the simplex: u_k = y_k − y_C.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import log, pi, prod
from typing import Any, NamedTuple

import torch
from pyro.distributions import Distribution, constraints
from torch import Tensor
from torch.distributions import biject_to
from torch.nn.functional import normalize

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.relaxed import ExpRelaxedCategorical
from ppl_vae.distributions.wrappers import describe, family, is_point, support_of
from ppl_vae.programs import joint, score, simulate, terms
from ppl_vae.programs.layout import Layout
from ppl_vae.programs.scores import Batch, ProgramLike, Values, as_batch, sum_sites

LOG_2PI = log(2 * pi)


class Chart(NamedTuple):
    """How one site's value z, `(K, B, ..., n)`, goes with its coordinates u, `(K, B, ..., m)`.

    Args:
        unconstrain: u of z; on the sphere a draw, since the radius is one.
        constrain: z of u, and log |∂z/∂u| as a number for each u, in a shape that is summed over all but `(K, B)`.
        smooth: is the density of u smooth? On the sphere it has no limit at u = 0.
    """

    unconstrain: Callable[[Tensor], Tensor]
    constrain: Callable[[Tensor], tuple[Tensor, Tensor]]
    smooth: bool = True


def chart_of(site: str, fn: Distribution) -> Chart:
    """The coordinates of a site by the support of its distribution in the model.

    Raises:
        InputError: the support is discrete, or one without coordinates here.
    """
    support = support_of(fn)
    if isinstance(family(fn), ExpRelaxedCategorical):
        return Chart(lambda y: y[..., :-1] - y[..., -1:], _from_log_ratios)
    if support is constraints.sphere:
        return Chart(_with_radius, _without_radius, smooth=False)
    if support is None or support.is_discrete:
        raise InputError(f"site {site!r}: {describe(fn)} has no coordinates that are real numbers")
    try:
        bijection = biject_to(support)
    except NotImplementedError as error:
        raise InputError(f"site {site!r}: the support {support} of {describe(fn)} has no coordinates") from error

    def constrain(u: Tensor) -> tuple[Tensor, Tensor]:
        z = bijection(u)
        return z, bijection.log_abs_det_jacobian(u, z)

    return Chart(bijection.inv, constrain)


def _from_log_ratios(u: Tensor) -> tuple[Tensor, Tensor]:
    y = torch.cat([u, torch.zeros_like(u[..., :1])], -1).log_softmax(-1)
    return y, torch.zeros_like(u[..., 0])  # the density of y is stated in these coordinates


def _with_radius(z: Tensor) -> Tensor:
    return z * torch.randn_like(z).norm(dim=-1, keepdim=True)


def _without_radius(u: Tensor) -> tuple[Tensor, Tensor]:
    """z = u/|u|, and log χ_n(r) − (n − 1) log r = log N(u; 0, I) + log area of the sphere."""
    half = u.shape[-1] / 2
    log_area = log(2) + half * log(pi) - torch.lgamma(u.new_tensor(half))
    return normalize(u, dim=-1), log_area - half * LOG_2PI - u.square().sum(-1) / 2


def _known(support: Any) -> Any:
    """What is equal for equal supports; a support with numbers in tensors is equal to itself alone."""
    if isinstance(support, list | tuple):
        return tuple(map(_known, support))
    if isinstance(support, Tensor):
        return object()
    if not isinstance(support, constraints.Constraint):
        return support
    of = vars(support)
    return type(support), tuple((name, _known(x)) for name, x in sorted(of.items()))


@dataclass(frozen=True)
class _Site:
    """Two are equal if they give the same z for each u."""

    name: str
    fn: Distribution = field(compare=False)
    layout: Layout
    chart: Chart = field(compare=False)
    shape: tuple[int, ...]
    """Of the coordinates of one row."""

    support: Any
    """What tells charts apart."""


@dataclass(frozen=True)
class Charts:
    """The coordinates of all latent sites of a batch, side by side."""

    sites: tuple[_Site, ...]

    @property
    def size(self) -> int:
        """D, the number of coordinates."""
        return sum(prod(site.shape) for site in self.sites)

    def values(self, u: Tensor) -> tuple[Values, Tensor]:
        """z of u, `(K, B, D)`, as `score` takes it, and log |∂z/∂u|, `(K, B)`."""
        values, log_det = {}, u.new_zeros(u.shape[:2])
        parts = u.split([prod(site.shape) for site in self.sites], -1)
        for site, part in zip(self.sites, parts, strict=True):
            z, each = site.chart.constrain(part.reshape(*u.shape[:2], *site.shape))
            values[site.name] = site.layout.rows_back(z, site.fn)
            log_det = log_det + each.reshape(*u.shape[:2], -1).sum(-1)
        return values, log_det


class Density(NamedTuple):
    """log p(u) and log p(x|u) of a batch as a function of u, `(K, B, D)`: `(K, B)` each; or `together` as their sum."""

    model: ProgramLike
    charts: Charts
    batch: Batch
    together: bool = False

    def __call__(self, u: Tensor) -> tuple[Tensor, ...]:
        values, log_det = self.charts.values(u)
        p = joint(self.model, self.batch, values)
        parts = sum_sites(p.log_prior) + log_det, sum_sites(p.log_lik)
        return (parts[0] + parts[1],) if self.together else parts


class Latents:
    """The latents of one batch of a pair.

    A pass needs the guide only in `draw_q` and `log_q`. A site of the guide that the model does not have
    (an auxiliary draw) has no coordinates: such a guide is refused.

    Args:
        model, guide: the programs.
        batch: B rows.

    Raises:
        InputError: a latent without coordinates (`chart_of`), a masked latent, or an auxiliary draw in the guide.
    """

    def __init__(self, model: ProgramLike, guide: ProgramLike, batch: Tensor | Batch) -> None:
        self.model, self.guide, self.batch = model, guide, as_batch(batch)
        with torch.no_grad():
            t = terms(model, guide, self.batch)
        if t.counted:
            raise InputError(f"site {min(t.counted)!r} is masked, so that its posterior is no density over all of z")
        if extra := t.q.keys() - t.log_prior.keys() - t.points:
            raise InputError(f"the guide's auxiliary draw {min(extra)!r} has no coordinates in the model")
        sites = []
        for name in t.log_prior:
            if is_point(t.p[name]):
                continue
            chart = chart_of(name, t.p[name])
            u = chart.unconstrain(t.by_row(name, t.layouts[name].lift(t.values[name], t.p[name])))
            support = _known(support_of(t.p[name]))
            sites.append(_Site(name, t.p[name], t.layouts[name], chart, tuple(u.shape[2:]), support))
        self.charts = Charts(tuple(sites))
        self.like = sum_sites(t.log_lik)[0]
        self.rows = len(self.like)
        self.sites, self.size = self.charts.sites, self.charts.size
        self.values = self.charts.values

    def density(self, *, together: bool = False) -> Density:
        """The density of u, which a chain walks in; the guide is not run."""
        return Density(self.model, self.charts, self.batch, together)

    def of(self, rows: Tensor) -> "Latents":
        """Those of some rows of the batch."""
        return Latents(self.model, self.guide, tuple(x[rows] for x in self.batch))

    def coordinates(self, values: Mapping[str, Tensor]) -> Tensor:
        """u, `(K, B, D)`, of values as `draw` gives them; on the sphere with a radius drawn."""
        found = []
        for site in self.sites:
            z = site.layout.rows_first(values[site.name], site.fn)
            found.append(site.chart.unconstrain(z).reshape(*z.shape[:2], -1))
        return torch.cat(found, -1)

    def log_joint(self, u: Tensor) -> Tensor:
        """log p(x, u), `(K, B)`."""
        log_prior, log_lik = self.log_parts(u)
        return log_prior + log_lik

    def log_parts(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """log p(u) and log p(x|u), each `(K, B)`; the guide is not run."""
        log_prior, log_lik = self.density()(u)
        return log_prior, log_lik

    def log_both(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x, u) and log q(u|x), each `(K, B)`."""
        values, log_det = self.values(u)
        t = score(self.model, self.guide, self.batch, values)
        return sum_sites(t.log_prior) + sum_sites(t.log_lik) + log_det, sum_sites(t.log_q) + log_det

    def draw_q(self, num_samples: int) -> Tensor:
        """u ~ q(u|x), `(K, B, D)`, reparameterized where the guide is."""
        t = terms(self.model, self.guide, self.batch, num_samples)
        return self.coordinates(t.values)

    def draw_p(self, num_samples: int) -> Tensor:
        """u ~ p(u), `(K, B, D)`: the prior, for each row by itself."""
        like = tuple(x.repeat(num_samples, *[1] * (x.dim() - 1)) for x in self.batch)
        drawn = simulate(self.model, like)
        found = []
        for site in self.sites:  # drawn for K·B rows, samples first
            z = site.layout.rows_first(drawn[site.name].unsqueeze(0), site.fn)[0]
            z = z.reshape(num_samples, self.rows, *z.shape[1:])
            found.append(site.chart.unconstrain(z).reshape(num_samples, self.rows, -1))
        return torch.cat(found, -1)
