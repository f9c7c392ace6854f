"""log p(x) by quadrature over up to three latent dimensions: the trapezoidal rule on a grid that fits each posterior.

For a smooth integrand that vanishes with its derivatives, the trapezoidal rule on a uniform grid converges faster than
any power of the spacing h: for a Gaussian the relative error is 2 exp(−2π²/h²), h in standard deviations (Trefethen &
Weideman 2014). So the grid is laid along the principal axes of each row's posterior, u = m + L v, with v uniform on
[−r, r]^D; m and L come from weighted draws first, then from the grid itself. The radius grows until nothing is left on
the boundary, and the spacing is halved until log p(x) stands still.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.importance import chunks
from ppl_vae.evidence.latents import Latents
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches

MOST_DIMENSIONS = 3
DRAWS = 2000  # of the guide, and of the prior, to find the posterior
FITS = 4  # of m and L to the grid
FIT_GRID = {1: (8.0, 0.1), 2: (7.0, 0.25), 3: (6.0, 0.5)}  # its radius and spacing: fine, not to lose a narrow mode
SPACING, RADIUS = 1.0, 7.0  # in standard deviations, of the first grid that counts
MOST_RADIUS = 100.0
BOUNDARY = -25.0  # log of the largest density on the boundary, over the largest of all
TOLERANCE = 1e-6
MOST_POINTS = {1: 2**14, 2: 2**18, 3: 2**18}


class Integral(NamedTuple):
    """log p(x) of each row `(N,)`, and by how much it changed when the spacing was halved last, `(N,)`."""

    log_px: Tensor
    error: Tensor


@torch.no_grad()
def quadrature(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    batch_size: int = 20,
    advance: Callable[[int], object] = lambda rows: None,
) -> Integral:
    """log p(x) = log ∫ p(x, u) du of each row.

    The guide is only asked where the posterior may be, so that a bad one costs time and no accuracy.

    Raises:
        InputError: as `check`, or latents without coordinates (`Latents`).
    """
    found = []
    for batch in batches(as_batch(rows), batch_size):
        latents = Latents(model, guide, batch)
        check(latents)
        found.append(_integrate(latents))
        advance(latents.rows)
    return Integral(*map(torch.cat, zip(*found, strict=True)))


def check(latents: Latents) -> None:
    """
    Raises:
        InputError: more than three latent dimensions, or a density that is not smooth.
    """
    if latents.size > MOST_DIMENSIONS:
        raise InputError(f"z has {latents.size} dimensions: quadrature is for {MOST_DIMENSIONS} at most")
    if rough := [site.name for site in latents.sites if not site.chart.smooth]:
        raise InputError(
            f"site {rough[0]!r} is on a sphere, where quadrature has no smooth coordinates: name another method"
        )


def _integrate(latents: Latents) -> Integral:
    m, L, least = _from_draws(latents)
    for _ in range(FITS):
        v = _grid(latents.size, *FIT_GRID[latents.size], like=m)
        m, L = _moments(_at(m, L, v), _log_joint(latents, _at(m, L, v)))
    radius = RADIUS
    while True:
        v = _grid(latents.size, radius, SPACING, like=m)
        log_f = _log_joint(latents, _at(m, L, v))
        edge = (v.abs().amax(-1) > radius - SPACING / 2).unsqueeze(-1)
        outside = log_f.masked_fill(~edge, -math.inf).amax(0) - log_f.amax(0)
        larger = radius * 1.5
        if (
            (outside < BOUNDARY).all()
            or larger > MOST_RADIUS
            or _points(latents.size, larger, SPACING) > MOST_POINTS[latents.size]
        ):
            break
        radius = larger
    value, spacing = _value(log_f, L, SPACING), SPACING
    error = torch.full_like(value, math.inf)
    largest = value.nan_to_num(0.0, 0.0, 0.0).abs().max().item()
    tolerance = max(TOLERANCE, 4 * torch.finfo(latents.like.dtype).eps * largest)
    while (error > tolerance).any() and _points(latents.size, radius, spacing / 2) <= MOST_POINTS[latents.size]:
        spacing /= 2
        log_f = _log_joint(latents, _at(m, L, _grid(latents.size, radius, spacing, like=m)))
        finer = _value(log_f, L, spacing)
        error, value = (finer - value).abs(), finer
    error[value < least] = math.inf  # the grid has missed a mode that draws have found
    return Integral(value, error + torch.where(outside < BOUNDARY, 0.0, outside.exp() * 2**latents.size))


def _points(D: int, radius: float, spacing: float) -> int:
    return (2 * round(radius / spacing) + 1) ** D


def _grid(D: int, radius: float, spacing: float, like: Tensor) -> Tensor:
    """v, `(points, D)`, from −radius to radius."""
    n = round(radius / spacing)
    line = torch.arange(-n, n + 1, dtype=like.dtype, device=like.device) * spacing
    return torch.cartesian_prod(*[line] * D).reshape(-1, D)


def _at(m: Tensor, L: Tensor, v: Tensor) -> Tensor:
    """u = m + L v, `(points, B, D)`."""
    return m + torch.einsum("bij,pj->pbi", L, v)


def _value(log_f: Tensor, L: Tensor, spacing: float) -> Tensor:
    """log Σ f(u) h^D |L|."""
    log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return log_f.logsumexp(0) + L.shape[-1] * math.log(spacing) + log_det


def _log_joint(latents: Latents, u: Tensor) -> Tensor:
    """In chunks of points, in float64; the programs see their own dtype."""
    sizes = list(chunks(latents.batch, len(u)))
    dtype = latents.like.dtype
    return torch.cat([latents.log_joint(part.to(dtype)).double() for part in u.split(sizes)])


def _from_draws(latents: Latents) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and Cholesky factor of weighted draws of guide and prior together (their even mixture).

    Also what log p(x) is at least by the weights, four standard errors below their mean, `(B,)`.
    """
    u = torch.cat([latents.draw_q(DRAWS), latents.draw_p(DRAWS)])
    log_p, log_q = latents.log_both(u)
    log_prior, _ = latents.log_parts(u)
    log_w = (log_p - torch.logaddexp(log_q, log_prior) + math.log(2)).double()
    w = (log_w - log_w.amax(0)).exp()
    least = (w.mean(0) - 4 * w.std(0) / len(w) ** 0.5).clamp(min=0).log() + log_w.amax(0)
    return *_moments(u.double(), log_w), least


def _moments(u: Tensor, log_f: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(B, D)` and Cholesky factor of the covariance `(B, D, D)` under weights ∝ f; equal ones where all are 0."""
    log_f, u = log_f.nan_to_num(-math.inf), u.nan_to_num(0.0, 0.0, 0.0)
    w = torch.where(log_f.amax(0) > -math.inf, log_f, 0.0).softmax(0).unsqueeze(-1)
    m = (w * u).sum(0)
    d = u - m
    covariance = torch.einsum("pbi,pbj->bij", w * d, d)
    floor = 1e-4 * (u.amax(0) - u.amin(0)).square().mean(-1)  # one point with all the weight has no spread
    return m, torch.linalg.cholesky(covariance + torch.diag_embed(floor.unsqueeze(-1).expand_as(m) * 1e-2))
