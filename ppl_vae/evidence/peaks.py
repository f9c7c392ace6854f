"""Where else a posterior may have mass: the peaks of log p(x, u) on a grid, each as the normal that its neighbours say.

The logarithm of a narrow mode is wide: a grid that falls between two modes still rises towards each of them. Through a
point of the grid that is higher than its neighbours goes the parabola of their differences; of a normal it is exact,
however narrow, and says the place, the covariance and the mass (Laplace's approximation).
"""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

STEEPEST = -1e4  # what a neighbour may be below a peak: beyond, a density has an end there
WIDEST = 1 / 4  # standard deviation of a peak, over the radius of the grid: what is wider in all directions is none


class Peaks(NamedTuple):
    """T of each of B rows, those of most mass, `(T, B, ...)`.

    Args:
        m: the place, `(T, B, D)`.
        L: Cholesky factor of the covariance, `(T, B, D, D)`.
        log_mass: log ∫ of the normal; −∞ where a row has fewer than T peaks, `(T, B)`.
    """

    m: Tensor
    L: Tensor
    log_mass: Tensor


def peaks(log_f: Tensor, v: Tensor, spacing: float, most: int) -> Peaks:
    """The `most` peaks of log f `(P, B)` at the P = n^D points v, `(P, D)`, of a grid; its boundary has none."""
    P, D = v.shape
    n, B = round(P ** (1 / D)), log_f.shape[1]
    cube = log_f.reshape(*[n] * D, B)

    def moved(by: tuple[int, ...]) -> Tensor:
        return cube[tuple(slice(1 + step, n - 1 + step) for step in by)].reshape(-1, B)

    around = list(itertools.product((-1, 0, 1), repeat=D))
    top = moved((0,) * D)
    highest = torch.stack([moved(by) for by in around]).amax(0)
    at, row = ((top >= highest) & (top > -math.inf)).nonzero(as_tuple=True)
    f = {by: (moved(by)[at, row] - top[at, row]).clamp(min=STEEPEST) for by in around}
    gradient, curvature = _differences(f, D)
    size, axes = torch.linalg.eigh(curvature)
    least = (WIDEST * (n - 1) / 2) ** -2
    wide, size = (size < least).all(-1), size.clamp(min=least)
    along = torch.einsum("cij,ci->cj", axes, gradient)
    shift = (along / size).clamp(-1.0, 1.0)
    log_mass = top[at, row] + (along * shift - size * shift.square() / 2).sum(-1)
    log_mass = log_mass + (D * math.log(2 * math.pi) - size.log().sum(-1)) / 2 + D * math.log(spacing)
    inner = v.reshape(*[n] * D, D)[(slice(1, n - 1),) * D].reshape(-1, D)
    place = inner[at] + spacing * torch.einsum("cij,cj->ci", axes, shift)
    L = spacing * torch.linalg.cholesky((axes / size.unsqueeze(-2)) @ axes.mT)

    all_mass = torch.full_like(top, -math.inf).index_put((at, row), log_mass.masked_fill(wide, -math.inf))
    number = torch.zeros_like(top, dtype=torch.long).index_put((at, row), torch.arange(len(at), device=at.device))
    best, where = all_mass.topk(min(most, len(top)), dim=0)
    if not len(at):
        return Peaks(v.new_zeros(*best.shape, D), torch.eye(D).to(v).expand(*best.shape, D, D), best)
    which = number.gather(0, where)
    return Peaks(place[which], L[which], best)


def _differences(f: dict[tuple[int, ...], Tensor], D: int) -> tuple[Tensor, Tensor]:
    """The gradient `(C, D)` and minus the second derivatives `(C, D, D)` at C points, by f of their neighbours."""

    def at(i: int, a: int, j: int = 0, b: int = 0) -> Tensor:
        return f[tuple(a * (k == i) + b * (k == j) for k in range(D))]

    def second(i: int, j: int) -> Tensor:
        if i == j:
            return -at(i, 1) - at(i, -1)
        return (at(i, 1, j, -1) + at(i, -1, j, 1) - at(i, 1, j, 1) - at(i, -1, j, -1)) / 4

    gradient = torch.stack([(at(i, 1) - at(i, -1)) / 2 for i in range(D)], -1)
    return gradient, torch.stack([torch.stack([second(i, j) for j in range(D)], -1) for i in range(D)], -2)
