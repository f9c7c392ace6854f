"""log p(x) by quadrature over up to three latent dimensions: the trapezoidal rule on a grid that fits each posterior.

For a smooth integrand that vanishes with its derivatives, the trapezoidal rule on a uniform grid converges faster than
any power of the spacing h: for a Gaussian the relative error is 2 exp(−2π²/h²), h in standard deviations (Trefethen &
Weideman 2014). So the grid is laid along the principal axes of each row's posterior, u = m + L v, with v uniform on
[−r, r]^D; m and L come from weighted draws first, then from the grid itself. The radius grows until nothing is left on
the boundary, and the spacing is halved until log p(x) stands still.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyro
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.importance import chunks
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.peaks import Peaks, peaks
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches

MOST_DIMENSIONS = 3
DRAWS = 2000  # of the guide, and of the prior, to find the posterior
FITS = 4  # of m and L to the grid
FIT_GRID = {1: (8.0, 0.1), 2: (7.0, 0.25), 3: (6.0, 0.5)}  # its radius and spacing: fine, not to lose a narrow mode
SPACING, RADIUS = 1.0, 7.0  # in standard deviations, of the first grid that counts
MOST_RADIUS = 100.0
SCAN = {1: (10.0, 0.02), 2: (9.9, 0.3), 3: (7.0, 0.7)}  # radius and spacing of a grid over the prior, and the guide
MOST_PEAKS = 32  # of each
MOST_BOXES = 8
AGAIN = 1e-4  # an error for which another way is tried
LOST = math.log(1e-6)  # what may be left beside the boxes, relative to all
BOUNDARY = -25.0  # log of the largest density on the boundary, over the largest of all
TOLERANCE = 1e-6
MOST_POINTS = {1: 2**14, 2: 2**18, 3: 2**18}


class Integral(NamedTuple):
    """log p(x) of each row `(N,)`, and by how much it changed when the spacing was halved last, `(N,)`."""

    log_px: Tensor
    error: Tensor


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
    """From the draws' moments on; again from the peaks on where that leaves an error, and the better of the two."""
    u, log_w = _draws(latents)
    tops = _scan(latents, u)
    found = _boxes(latents, u, log_w, tops, by_peaks=False)
    rows = (found.error > AGAIN).nonzero().flatten()
    if len(rows):
        some = Peaks(*(x[:, rows] for x in tops))
        again = _boxes(latents.of(rows), u[:, rows], log_w[:, rows], some, by_peaks=True)
        better = again.error < found.error[rows]
        found = Integral(*(x.index_put((rows[better],), y[better]) for x, y in zip(found, again, strict=True)))
    return found


def _boxes(latents: Latents, u: Tensor, log_w: Tensor, tops: Peaks, *, by_peaks: bool) -> Integral:
    """A box for most of the mass, then one for what is beside it, while there is any."""
    every = torch.arange(latents.rows, device=u.device)
    value = log_error = torch.full_like(log_w[0], -math.inf)
    idle, tried = torch.zeros_like(value, dtype=torch.bool), torch.zeros_like(tops.log_mass, dtype=torch.bool)
    boxes: list[Box] = []
    while True:
        drawn, top = _free(u, log_w, boxes), _free(tops.m, tops.log_mass, boxes).masked_fill(tried, -math.inf)
        lost = drawn.logsumexp(0) - math.log(len(u))
        highest, which = top.max(0)
        peak = (highest > value + LOST) & ((value > -math.inf) | by_peaks)
        rows = (peak | ((lost > value + LOST) & ~idle)).nonzero().flatten()
        if not len(rows) or len(boxes) == MOST_BOXES:
            break
        tried[which[peak], every[peak]] = True
        m, L = _moments(u, drawn)
        m, L = tops.m[which, every].where(peak[:, None], m), tops.L[which, every].where(peak[:, None, None], L)
        part = latents if len(rows) == latents.rows else latents.of(rows)
        more, error, box = _box(part, m[rows], L[rows], [Box(*(x[rows] for x in box)) for box in boxes])
        value = value.index_put((rows,), torch.logaddexp(value[rows], more))
        log_error = log_error.index_put((rows,), torch.logaddexp(log_error[rows], more + error.log()))
        idle[rows] |= ~peak[rows] & (more < value[rows] + LOST)
        boxes.append(box.among(rows, latents.rows))
    beside = torch.stack([log_error, lost, top.logsumexp(0)]).logsumexp(0)
    error = (beside - value).exp().nan_to_num(math.inf)
    error[value < _least(log_w)] = math.inf  # the grid has missed a mode that draws have found
    return Integral(value, error)


def _free(u: Tensor, log_f: Tensor, boxes: Sequence[Box]) -> Tensor:
    """log f, `(P, B)`, of what is in none of the boxes."""
    for box in boxes:
        log_f = log_f.masked_fill(box.holds(u), -math.inf)
    return log_f


def _box(latents: Latents, m: Tensor, L: Tensor, before: Sequence[Box]) -> tuple[Tensor, Tensor, Box]:
    """log ∫ f over what is in none of the boxes before, by a grid that is fitted from m and L on, and its error."""
    D = latents.size
    radius, spacing = FIT_GRID[D]
    for _ in range(FITS):
        fitted = L
        u = _at(m, L, _grid(D, radius, spacing, like=m))
        log_f = _free(u, _log_joint(latents, u), before)
        m, L = _moments(u, log_f)
    first = _value(log_f, fitted, spacing)
    radius = RADIUS
    while True:
        v = _grid(D, radius, SPACING, like=m)
        u = _at(m, L, v)
        log_f = _free(u, _log_joint(latents, u), before)
        edge = (v.abs().amax(-1) > radius - SPACING / 2).unsqueeze(-1)
        outside = (log_f.masked_fill(~edge, -math.inf).amax(0) - log_f.amax(0)).nan_to_num(-math.inf)
        larger = radius * 1.5
        if (
            (outside < BOUNDARY).all()
            or larger > MOST_RADIUS
            or _points(D, larger, SPACING) > MOST_POINTS[D]
        ):
            break
        radius = larger
    value, spacing = _value(log_f, L, SPACING), SPACING
    error = torch.full_like(value, math.inf)
    largest = value.nan_to_num(0.0, 0.0, 0.0).abs().max().item()
    tolerance = max(TOLERANCE, 4 * torch.finfo(latents.like.dtype).eps * largest)
    while (error > tolerance).any() and _points(D, radius, spacing / 2) <= MOST_POINTS[D]:
        spacing /= 2
        u = _at(m, L, _grid(D, radius, spacing, like=m))
        log_f = _free(u, _log_joint(latents, u), before)
        finer = _value(log_f, L, spacing)
        error, value = (finer - value).abs().nan_to_num(0.0) + (first - finer).clamp(min=0.0).nan_to_num(0.0), finer
    error = error + torch.where(outside < BOUNDARY, 0.0, outside.exp() * 2**D)
    return value, error, Box(m, L, torch.full_like(value, radius))


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


def _draws(latents: Latents) -> tuple[Tensor, Tensor]:
    """Draws of guide and prior, `(2 DRAWS, B, D)`, and their weights p(x, u) over the density of the even mixture."""
    u = torch.cat([latents.draw_q(DRAWS), latents.draw_p(DRAWS)])
    log_p, log_q = latents.log_both(u)
    log_prior, _ = latents.log_parts(u)
    log_w = (log_p - torch.logaddexp(log_q, log_prior) + math.log(2)).double()
    return u.double(), log_w.nan_to_num(-math.inf)


def _least(log_w: Tensor) -> Tensor:
    """What log p(x) is at least by the weights, four standard errors below their mean, `(B,)`."""
    w = (log_w - log_w.amax(0)).exp()
    return (w.mean(0) - 4 * w.std(0) / len(w) ** 0.5).clamp(min=0).log() + log_w.amax(0)


def _scan(latents: Latents, u: Tensor) -> Peaks:
    """The peaks of p(x, u) on a grid over the guide and on one over the prior, by draws of both."""
    radius, spacing = SCAN[latents.size]
    v, found = _grid(latents.size, radius, spacing, like=u), []
    for drawn in u.split(DRAWS):
        m, L = _moments(drawn, torch.zeros_like(drawn[..., 0]))
        with pyro.validation_enabled(False):  # a point may be where a density is not defined: no peak
            log_f = _log_joint(latents, _at(m, L, v)).nan_to_num(-math.inf)
        top = peaks(log_f, v, spacing, MOST_PEAKS)
        log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        found.append(Peaks(m + torch.einsum("bij,tbj->tbi", L, top.m), L @ top.L, top.log_mass + log_det))
    return Peaks(*map(torch.cat, zip(*found, strict=True)))


def _moments(u: Tensor, log_f: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(B, D)` and Cholesky factor of the covariance `(B, D, D)` under weights ∝ f; equal ones where all are 0."""
    log_f, u = log_f.nan_to_num(-math.inf), u.nan_to_num(0.0, 0.0, 0.0)
    w = torch.where(log_f.amax(0) > -math.inf, log_f, 0.0).softmax(0).unsqueeze(-1)
    m = (w * u).sum(0)
    d = u - m
    covariance = torch.einsum("pbi,pbj->bij", w * d, d)
    floor = 1e-4 * (u.amax(0) - u.amin(0)).square().mean(-1)  # one point with all the weight has no spread
    return m, torch.linalg.cholesky(covariance + torch.diag_embed(floor.unsqueeze(-1).expand_as(m) * 1e-2))
