"""log p(x) by quadrature over up to three latent dimensions: a grid in a box (`boxes`) for each part of a posterior.

The first box is where draws of the guide and the prior have their weight. What is beside it is looked for in two ways:
by the weights of the draws that are in no box, and by the peaks (`peaks`) of log p(x, u) on a wide grid over the prior
and on one over the guide. Where there is more than a millionth of the mass, a box is fitted to that too; a box holds
nothing that an earlier one holds. What is left, and peaks too narrow for the grid around them, count as error.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import pyro
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.boxes import Box, at, free, grid, log_joint, moments, over_box
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.peaks import Peaks, peaks
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches

MOST_DIMENSIONS = 3
DRAWS = 2000  # of the guide, and of the prior, to find the posterior
SCAN = {1: (10.0, 0.02), 2: (9.9, 0.3), 3: (7.0, 0.7)}  # radius and spacing of a grid over the prior, and the guide
MOST_PEAKS = 32  # of each
MOST_BOXES = 24
AGAIN = 1e-4  # an error for which another way is tried
LOST = math.log(1e-6)  # what may be left beside the boxes, relative to all


class Integral(NamedTuple):
    """log p(x) of each row `(N,)`, and its error: its last change, and mass that no grid holds, in nats, `(N,)`."""

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

    The guide is only asked where the posterior may be, so that a bad one costs time and no accuracy. Not seen, and not
    in the error, is a mode that is narrower than the spacing of `SCAN` and near a much wider one, or beyond both of its
    grids, unless a draw hits it.

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
    """From the draws' moments on; rows where that leaves an error each by itself, from the peaks on."""
    u, log_w = _draws(latents)
    tops = _scan(latents, u)
    found = _boxes(latents, u, log_w, tops, by_peaks=False)
    for row in (found.error > AGAIN).nonzero():
        alone = Peaks(*(x[:, row] for x in tops))
        again = _boxes(latents.of(row), u[:, row], log_w[:, row], alone, by_peaks=True)
        holds_as_much = again.log_px + again.error >= found.log_px[row] - found.error[row]
        if (holds_as_much & (again.error < found.error[row])).all():
            found.log_px[row], found.error[row] = again
    return found


def _boxes(latents: Latents, u: Tensor, log_w: Tensor, tops: Peaks, *, by_peaks: bool) -> Integral:
    """A box for most of the mass, then one for what is beside it, while there is any."""
    every = torch.arange(latents.rows, device=u.device)
    value = log_error = torch.full_like(log_w[0], -math.inf)
    idle, tried = torch.zeros_like(value, dtype=torch.bool), torch.zeros_like(tops.log_mass, dtype=torch.bool)
    boxes: list[Box] = []
    while True:
        drawn, top = free(u, log_w, boxes), free(tops.m, tops.log_mass, boxes).masked_fill(tried, -math.inf)
        lost = drawn.logsumexp(0) - math.log(len(u))
        highest, which = top.max(0)
        peak = (highest > value + LOST) & ((value > -math.inf) | by_peaks)
        rows = (peak | ((lost > value + LOST) & ~idle)).nonzero().flatten()
        if not len(rows) or len(boxes) == MOST_BOXES:
            break
        tried[which[peak], every[peak]] = True
        m, L = moments(u, drawn)
        m, L = tops.m[which, every].where(peak[:, None], m), tops.L[which, every].where(peak[:, None, None], L)
        part = latents if len(rows) == latents.rows else latents.of(rows)
        before = [Box(*(x[rows] for x in box)) for box in boxes]
        more, error, box = over_box(part, m[rows], L[rows], before, Peaks(*(x[:, rows] for x in tops)))
        value = value.index_put((rows,), torch.logaddexp(value[rows], more))
        log_error = log_error.index_put((rows,), torch.logaddexp(log_error[rows], more + error.log()))
        idle[rows] |= ~peak[rows] & (more < value[rows] + LOST)
        boxes.append(box.among(rows, latents.rows))
    beside = torch.stack([log_error, lost, top.logsumexp(0)]).logsumexp(0)
    error = (beside - value).exp().nan_to_num(math.inf, math.inf)
    error[value < _least(log_w)] = math.inf  # the grid has missed a mode that draws have found
    return Integral(value, error)


def _draws(latents: Latents) -> tuple[Tensor, Tensor]:
    """Draws of guide and prior, `(2 DRAWS, B, D)`, and their weights p(x, u) over the density of the even mixture."""
    u = torch.cat([latents.draw_q(DRAWS), latents.draw_p(DRAWS)])
    log_p, log_q = latents.log_both(u)
    log_prior, _ = latents.log_parts(u)
    log_w = (log_p - torch.logaddexp(log_q, log_prior) + math.log(2)).double()
    return u.double(), log_w.nan_to_num(-math.inf, neginf=-math.inf)


def _least(log_w: Tensor) -> Tensor:
    """What log p(x) is at least by the weights, four standard errors below their mean, `(B,)`."""
    w = (log_w - log_w.amax(0)).exp()
    return (w.mean(0) - 4 * w.std(0) / len(w) ** 0.5).clamp(min=0).log() + log_w.amax(0)


def _scan(latents: Latents, u: Tensor) -> Peaks:
    """The peaks of p(x, u) on a grid over the guide and on one over the prior, by draws of both."""
    radius, spacing = SCAN[latents.size]
    v, found = grid(latents.size, radius, spacing, like=u), []
    for drawn in u.split(DRAWS):
        m, L = moments(drawn, torch.zeros_like(drawn[..., 0]))
        with pyro.validation_enabled(False):  # a point may be where a density is not defined: no peak
            log_f = log_joint(latents, at(m, L, v)).nan_to_num(-math.inf, neginf=-math.inf)
        top = peaks(log_f, v, spacing, MOST_PEAKS)
        log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        found.append(Peaks(m + torch.einsum("bij,tbj->tbi", L, top.m), L @ top.L, top.log_mass + log_det))
    return Peaks(*map(torch.cat, zip(*found, strict=True)))
