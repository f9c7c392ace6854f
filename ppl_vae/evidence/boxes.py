"""log ∫ p(x, u) du over one box: the trapezoidal rule on a grid that fits what is in it.

For a smooth integrand that vanishes with its derivatives, the trapezoidal rule on a uniform grid converges faster than
any power of the spacing h: for a Gaussian the relative error is 2 exp(−2π²/h²), h in standard deviations (Trefethen &
Weideman 2014). So the grid is laid along the principal axes of the mass, u = m + L v, with v uniform on [−r, r]^D; m
and L are fitted to the grid itself. The radius grows until nothing is left on the boundary, and the spacing is halved
until log p(x) stands still.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.evidence.importance import chunks
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.peaks import Peaks

FITS = 4  # of m and L to the grid
FIT_GRID = {1: (8.0, 0.1), 2: (7.0, 0.25), 3: (6.0, 0.5)}  # its radius and spacing: fine, not to lose a narrow mode
SPACING, RADIUS = 1.0, 7  # in standard deviations, of the first grid that counts
MOST_RADIUS = 100.0
SEEN = 1.25  # spacing over the standard deviation of a peak, at most: the error is then 6e-6 of its mass
BOUNDARY = -25.0  # log of the largest density on the boundary, over the largest of all
TOLERANCE = 1e-6
MOST_POINTS = {1: 2**14, 2: 2**18, 3: 2**18}


class Box(NamedTuple):
    """u = m + L v with |v| ≤ radius in each of D coordinates, for each of B rows; radius −1 holds nothing."""

    m: Tensor
    L: Tensor
    radius: Tensor

    def holds(self, u: Tensor) -> Tensor:
        """Which of u, `(P, B, D)`, are in it, `(P, B)`."""
        v = torch.linalg.solve_triangular(self.L, (u - self.m).permute(1, 2, 0), upper=False)
        return (v.abs().amax(1) <= self.radius.unsqueeze(-1)).mT

    def among(self, rows: Tensor, count: int) -> "Box":
        """The same for `count` rows, of which only some have it."""
        m = self.m.new_zeros(count, *self.m.shape[1:])
        L = torch.eye(m.shape[-1]).to(m).repeat(count, 1, 1)
        radius = m.new_full((count,), -1.0)
        return Box(*(x.index_put((rows,), y) for x, y in zip((m, L, radius), self, strict=True)))


def free(u: Tensor, log_f: Tensor, boxes: Sequence[Box]) -> Tensor:
    """log f, `(P, B)`, of what is in none of the boxes."""
    for box in boxes:
        log_f = log_f.masked_fill(box.holds(u), -math.inf)
    return log_f


def over_box(latents: Latents, m: Tensor, L: Tensor, before: Sequence[Box], tops: Peaks) -> tuple[Tensor, Tensor, Box]:
    """log ∫ f over what is in none of the boxes before, by a grid that is fitted from m and L on, and its error."""
    D = latents.size
    radius, spacing = FIT_GRID[D]
    for _ in range(FITS):
        fitted = L
        u = at(m, L, grid(D, radius, spacing, like=m))
        log_f = free(u, log_joint(latents, u), before)
        m, L = moments(u, log_f)
    first = _value(log_f, fitted, spacing)
    radius = RADIUS
    while True:
        v = grid(D, radius, SPACING, like=m)
        u = at(m, L, v)
        log_f = free(u, log_joint(latents, u), before)
        edge = (v.abs().amax(-1) > radius - SPACING / 2).unsqueeze(-1)
        outside = (log_f.masked_fill(~edge, -math.inf).amax(0) - log_f.amax(0)).nan_to_num(-math.inf, neginf=-math.inf)
        larger = math.ceil(radius * 1.5)  # a whole number of spacings: the grid ends there
        if (outside < BOUNDARY).all() or larger > MOST_RADIUS or _points(D, larger, SPACING / 2) > MOST_POINTS[D]:
            break
        radius = larger
    box = Box(m, L, torch.full_like(first, radius))
    inside = tops.log_mass.masked_fill(~box.holds(tops.m), -math.inf)
    width = torch.linalg.svdvals(torch.linalg.solve_triangular(L, tops.L, upper=False))[..., -1]
    value, spacing = _value(log_f, L, SPACING), SPACING
    error = torch.full_like(value, math.inf)
    largest = value.nan_to_num(0.0, 0.0, 0.0).abs().max().item()
    tolerance = max(TOLERANCE, 4 * torch.finfo(latents.like.dtype).eps * largest)
    while (error > tolerance).any() and _points(D, radius, spacing / 2) <= MOST_POINTS[D]:
        spacing /= 2
        u = at(m, L, grid(D, radius, spacing, like=m))
        log_f = free(u, log_joint(latents, u), before)
        finer = _value(log_f, L, spacing)
        between = inside.masked_fill(width > spacing / SEEN, -math.inf).logsumexp(0)  # peaks that the grid may not see
        error = (finer - value).abs() + (first - finer).clamp(min=0.0) + (between - finer).exp()
        error, value = error.nan_to_num(0.0, math.inf), finer
    error = error + torch.where(outside < BOUNDARY, 0.0, outside.exp() * 2**D)
    return value, error, box


def _points(D: int, radius: float, spacing: float) -> int:
    return (2 * round(radius / spacing) + 1) ** D


def grid(D: int, radius: float, spacing: float, like: Tensor) -> Tensor:
    """v, `(points, D)`, from −radius to radius."""
    n = round(radius / spacing)
    line = torch.arange(-n, n + 1, dtype=like.dtype, device=like.device) * spacing
    return torch.cartesian_prod(*[line] * D).reshape(-1, D)


def at(m: Tensor, L: Tensor, v: Tensor) -> Tensor:
    """u = m + L v, `(points, B, D)`."""
    return m + torch.einsum("bij,pj->pbi", L, v)


def _value(log_f: Tensor, L: Tensor, spacing: float) -> Tensor:
    """log Σ f(u) h^D |L|."""
    log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return log_f.logsumexp(0) + L.shape[-1] * math.log(spacing) + log_det


def log_joint(latents: Latents, u: Tensor) -> Tensor:
    """In chunks of points, in float64; the programs see their own dtype."""
    sizes = list(chunks(latents.batch, len(u)))
    dtype = latents.like.dtype
    return torch.cat([latents.log_joint(part.to(dtype)).double() for part in u.split(sizes)])


def moments(u: Tensor, log_f: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(B, D)` and Cholesky factor of the covariance `(B, D, D)` under weights ∝ f; equal ones where all are 0."""
    log_f, u = log_f.nan_to_num(-math.inf, neginf=-math.inf), u.nan_to_num(0.0, 0.0, 0.0)
    w = torch.where(log_f.amax(0) > -math.inf, log_f, 0.0).softmax(0).unsqueeze(-1)
    m = (w * u).sum(0)
    d = u - m
    covariance = torch.einsum("pbi,pbj->bij", w * d, d)
    floor = 1e-4 * (u.amax(0) - u.amin(0)).square().mean(-1)  # one point with all the weight has no spread
    return m, torch.linalg.cholesky(covariance + torch.diag_embed(floor.unsqueeze(-1).expand_as(m) * 1e-2))
