"""Hamiltonian Monte Carlo on the coordinates of latents, for K chains of each of B rows at once.

A density is a function of u, `(K, B, D)`, that gives terms of its logarithm, each `(K, B)`; the logarithm is their sum
weighted by `powers`. So a path of densities between two keeps values and slopes of both when its temperature changes.

Source: Neal 2011.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ppl_vae.graphs.calls import compilable


class Density(Protocol):
    """Terms of a log density at u, `(K, B)` each."""

    def __call__(self, u: Tensor, /) -> Sequence[Tensor]: ...


TARGET = 0.7
"""The acceptance probability that a step size is tuned to: near the best cost per independent draw in any dimension."""
JITTER = 0.2
"""Each trajectory has a step within ± this part of the step size, or it could return to where it began."""


class Point(NamedTuple):
    """Where the chains are: `u`, `(K, B, D)`, the density's terms there, `(P, K, B)`, and their slopes by u."""

    u: Tensor
    terms: Tensor
    slopes: Tensor

    def log_density(self, powers: Sequence[float]) -> Tensor:
        """Σ_i powers_i · terms_i, `(K, B)`; a power of 0 leaves its term out, even if this is −∞."""
        return _weighted(self.terms, powers)

    def slope(self, powers: Sequence[float]) -> Tensor:
        """The gradient of `log_density` by u, `(K, B, D)`."""
        return _weighted(self.slopes, powers)


class Moved(NamedTuple):
    """Where one transition led: the point, which chains accepted, `(K, B)`, and with what probability."""

    point: Point
    accepted: Tensor
    probability: Tensor


def _weighted(terms: Tensor, powers: Sequence[float]) -> Tensor:
    return sum((power * term for power, term in zip(powers, terms, strict=True) if power), torch.zeros_like(terms[0]))


def point_at(density: Density, u: Tensor) -> Point:
    """The density's terms and their slopes at u, `(K, B, D)`, where no row or chain depends on another."""
    return Point(u.detach(), *_terms_and_slopes(density, u.detach()))


@compilable
def _terms_and_slopes(density: Density, u: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        terms = density(u)
        slopes = [_slope(term, u) for term in terms]
    return torch.stack([term.detach() for term in terms]), torch.stack(slopes)


def _slope(term: Tensor, u: Tensor) -> Tensor:
    if not term.requires_grad:  # as a uniform prior on coordinates without bounds
        return torch.zeros_like(u)
    return torch.autograd.grad(term.sum(), u, retain_graph=True, allow_unused=True, materialize_grads=True)[0]


def transition(
    density: Density,
    point: Point,
    step_size: Tensor,
    leapfrog: int,
    *,
    scale: Tensor | None = None,
    powers: Sequence[float] = (1.0,),
) -> Moved:
    """One transition that leaves the density invariant: `leapfrog` steps, then accept or reject.

    It costs `leapfrog` evaluations of the density with its slopes. A trajectory that leaves the finite numbers is
    rejected.

    Args:
        point: where the chains are, of `point_at`.
        step_size: `(B,)` or `(K, B)`, in units of `scale`.
        scale: `(B, D)`, about the standard deviation of each coordinate; 1 by default.
        powers: of the density's terms.
    """
    k, b = point.u.shape[:2]
    step = step_size * (1 + JITTER * (2 * torch.rand(k, b, dtype=point.u.dtype, device=point.u.device) - 1))
    by_coordinate = step.unsqueeze(-1) * (1 if scale is None else scale)
    momentum = torch.randn_like(point.u)
    end, end_momentum, whole = _leapfrog(density, point, momentum, by_coordinate, leapfrog, powers)
    gain = end.log_density(powers) - point.log_density(powers)
    gain = gain.double() + (momentum.double().square() - end_momentum.double().square()).sum(-1) / 2
    gain = torch.where(whole & gain.isfinite(), gain, -torch.inf)
    probability = gain.clamp(max=0).exp()
    accepted = torch.rand_like(probability) < probability
    at = accepted.unsqueeze(-1)
    moved = Point(
        torch.where(at, end.u, point.u),
        torch.where(accepted, end.terms, point.terms),
        torch.where(at, end.slopes, point.slopes),
    )
    return Moved(moved, accepted, probability)


def _leapfrog(
    density: Density, point: Point, momentum: Tensor, step: Tensor, leapfrog: int, powers: Sequence[float]
) -> tuple[Point, Tensor, Tensor]:
    """The end of the trajectory, its momentum, and which chains stayed within the finite numbers, `(K, B)`."""
    start = point.u
    whole = torch.ones(start.shape[:2], dtype=torch.bool, device=start.device)
    for _ in range(leapfrog):
        momentum = momentum + step / 2 * point.slope(powers)
        u = point.u + step * momentum
        whole = whole & u.isfinite().all(-1)
        point = point_at(density, torch.where(whole.unsqueeze(-1), u, start))
        momentum = momentum + step / 2 * point.slope(powers)
    return point, momentum, whole


def adapted(step_size: Tensor, probability: Tensor, rate: float) -> Tensor:
    """The step size of each row, `(B,)`, moved so that its acceptance, a mean over chains, comes nearer to `TARGET`.

    log ε grows by rate · (acceptance − `TARGET`), as in Robbins & Monro 1951. Chains whose step adapts have no
    density that they leave invariant: draws that count come from steps that no longer change.
    """
    return step_size * (rate * (probability.mean(0) - TARGET)).exp().to(step_size)


def first_step_size(point: Point) -> Tensor:
    """Where adapting begins: D^(−1/4) for each row, the rate at which the best step falls with the dimension."""
    return point.u.new_full(point.u.shape[1:2], point.u.shape[-1] ** -0.25)


def tuned(
    density: Density,
    point: Point,
    leapfrog: int,
    *,
    scale: Tensor | None = None,
    powers: Sequence[float] = (1.0,),
    transitions: int = 60,
) -> tuple[Tensor, Point]:
    """A step size for each row, `(B,)`, and where the chains are after the transitions that found it.

    The step size is the geometric mean over the second half of the transitions.
    """
    step, logs = first_step_size(point), []
    for t in range(transitions):
        point, _, probability = transition(density, point, step, leapfrog, scale=scale, powers=powers)
        step = adapted(step, probability, max(2 / (t + 1) ** 0.5, 0.3))
        logs.append(step.log())
    return torch.stack(logs[transitions // 2 :]).mean(0).exp(), point
