"""A path of densities from one that can be drawn from to the posterior, and chains that walk along it.

From the guide f_β(u) = q(u|x)^(1−β) p(x, u)^β, from the prior f_β(u) = p(u) p(x|u)^β, with β from 0 to 1. Along the
chain u_0, …, u_{T−1} the weight is

    log w = Σ_{t=1}^T (β_t − β_{t−1}) · ∂_β log f_β(u_{t−1}),

where u_t follows from u_{t−1} by a transition that leaves f_{β_t} invariant. Forward from u_0 ~ f_0, E[w] = p(x).
In reverse from u_{T−1} ~ p(u|x), E[1/w] = 1/p(x), since the transitions are reversible.

Source: Neal 2001; Grosse, Ghahramani & Adams 2015.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ppl_vae.distributions.wrappers import describe, family
from ppl_vae.evidence import hmc
from ppl_vae.evidence.hmc import Point, first_step_size, point_at, transition
from ppl_vae.evidence.latents import Charts, Latents
from ppl_vae.programs import Terms, joint, score, terms
from ppl_vae.programs.scores import Batch, ProgramLike, sum_sites
from ppl_vae.programs.state import has_numbers

Start = Literal["guide", "prior"]

STEEPNESS = 4.0
GRID, FIRST, LATER = 12, 25, 8
"""In a pilot run: at how many temperatures a step is tuned, by how many transitions at the first and at the others."""
PILOT_CHAINS, SPREAD_DRAWS = 8, 64
LEAST_SCALE = 1e-6


def beta(fraction: float) -> float:
    """β at a part of the way, from 0 to 1: a sigmoid, so that it changes slowly at both ends (Wu et al. 2017)."""
    low, high = _sigmoid(-STEEPNESS), _sigmoid(STEEPNESS)
    return (_sigmoid(STEEPNESS * (2 * fraction - 1)) - low) / (high - low)


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


@dataclass(frozen=True)
class _Kept:
    """The guide's terms at one batch, by the number of chains: kept, and no part of what a density is."""

    terms: dict[int, Terms] = field(default_factory=dict, compare=False)


class _Both(NamedTuple):
    """log p(x, u) and log q(u|x) of a batch as a function of u, `(K, B, D)`, each `(K, B)`."""

    model: ProgramLike
    guide: ProgramLike
    charts: Charts
    batch: Batch
    kept: _Kept

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        values, log_det = self.charts.values(u)
        q = self._alone(len(u)) if has_numbers() else None  # else it is traced, where nothing can be kept
        if q is None:
            t = score(self.model, self.guide, self.batch, values)
            return sum_sites(t.log_prior) + sum_sites(t.log_lik) + log_det, sum_sites(t.log_q) + log_det
        ((site, fn),) = q.q.items()
        p = joint(self.model, self.batch, values)
        log_q = q.rows(site, fn.log_prob(q.layouts[site].lift(values[site], fn)))
        return sum_sites(p.log_prior) + sum_sites(p.log_lik) + log_det, log_q + log_det

    def _alone(self, k: int) -> Terms | None:
        """The terms of a guide with one site, which is run once for each K; None for another guide."""
        if k not in self.kept.terms:
            with torch.random.fork_rng(), torch.no_grad():  # its draws are not used
                self.kept.terms[k] = terms(self.model, self.guide, self.batch, k)
        return self.kept.terms[k] if len(self.kept.terms[k].q) == 1 else None


class Path:
    """The densities between the start and the posterior of one batch.

    Args:
        start: `guide` or `prior`.
    """

    def __init__(self, latents: Latents, start: Start) -> None:
        self.latents, self.start = latents, start
        self.density: hmc.Density = (
            _Both(latents.model, latents.guide, latents.charts, latents.batch, _Kept())
            if start == "guide"
            else latents.density()
        )

    def powers(self, beta: float) -> tuple[float, float]:
        """The powers of the two terms of `density` in f_β."""
        return (beta, 1 - beta) if self.start == "guide" else (1.0, beta)

    def slope(self, point: Point) -> Tensor:
        """∂_β log f_β, `(K, B)`, which does not depend on β."""
        a, b = point.terms.double()
        return a - b if self.start == "guide" else b

    def draw(self, chains: int) -> Tensor:
        """u ~ f_0, `(K, B, D)`."""
        return self.latents.draw_q(chains) if self.start == "guide" else self.latents.draw_p(chains)


class Steps(NamedTuple):
    """The step sizes of a batch, found in a pilot run; in the run that counts nothing changes them.

    Args:
        log_size: the logarithm of the step size of each row at evenly spaced parts of the way, `(GRID, B)`.
        first, last: the standard deviation of each coordinate at the start and, by the guide, at the end, `(B, D)`.
    """

    log_size: Tensor
    first: Tensor
    last: Tensor

    def size(self, fraction: float) -> Tensor:
        """The step size of each row, `(B,)`, interpolated."""
        at = min(max(fraction * GRID - 0.5, 0), GRID - 1)
        low = min(int(at), GRID - 2)
        return torch.lerp(self.log_size[low], self.log_size[low + 1], at - low).exp()

    def scale(self, fraction: float) -> Tensor:
        """The scale of each coordinate, `(B, D)`: precisions mix as those of normal densities do on the path."""
        part = beta(fraction)
        return ((1 - part) / self.first.square() + part / self.last.square()).rsqrt()


def pilot(path: Path, leapfrog: int) -> Steps:
    """Tune the step sizes along the path, with chains that are then thrown away."""
    first, last = (_spread(draw(SPREAD_DRAWS)) for draw in (path.draw, path.latents.draw_q))
    point = point_at(path.density, path.draw(PILOT_CHAINS))
    step = first_step_size(point)
    steps = Steps(step.log().expand(GRID, -1).clone(), first, last)
    for g in range(GRID):
        fraction, found = (g + 0.5) / GRID, []
        length = LATER if g else FIRST
        for t in range(length):
            scale, powers = steps.scale(fraction), path.powers(beta(fraction))
            point, _, probability = transition(path.density, point, step, leapfrog, scale=scale, powers=powers)
            step = hmc.adapted(step, probability, 0.6 if g else max(2 / (t + 1) ** 0.5, 0.6))
            found.append(step.log())
        steps.log_size[g] = torch.stack(found[length // 2 :]).mean(0)
        step = steps.log_size[g].exp()
    return steps


def _spread(u: Tensor) -> Tensor:
    return u.std(0).nan_to_num(nan=1.0, posinf=1.0).clamp(min=LEAST_SCALE)


class Walked(NamedTuple):
    """log w of each chain, `(K, B)`, and the acceptance of each row, a mean over chains and temperatures, `(B,)`."""

    log_w: Tensor
    acceptance: Tensor


def walk(
    path: Path,
    steps: Steps,
    u: Tensor,
    temperatures: int,
    leapfrog: int,
    *,
    reverse: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Walked:
    """Walk along the path, from u ~ f_0 to the posterior or, in `reverse`, from u ~ p(u|x) to the start.

    Args:
        u: `(K, B, D)`.
        temperatures: T; there are T − 1 transitions.
        advance: called after each transition.
    """
    betas = [beta(t / temperatures) for t in range(temperatures + 1)]
    point = point_at(path.density, u)
    log_w = path.slope(point) * (betas[-1] - betas[-2] if reverse else betas[1])
    accepted = torch.zeros_like(log_w[0])
    inner = range(1, temperatures)
    for t in reversed(inner) if reverse else inner:
        size, scale = steps.size(t / temperatures), steps.scale(t / temperatures)
        point, took, _ = transition(path.density, point, size, leapfrog, scale=scale, powers=path.powers(betas[t]))
        log_w = log_w + path.slope(point) * (betas[t] - betas[t - 1] if reverse else betas[t + 1] - betas[t])
        accepted = accepted + took.double().mean(0)
        advance()
    return Walked(log_w, accepted / max(len(inner), 1))


def start_of(model: ProgramLike, guide: ProgramLike, batch: Batch, start: Start) -> tuple[Start, str]:
    """Where a path can start, and why there: from the prior where the guide's density at any u costs too much."""
    if start == "prior":
        return "prior", "asked for"
    reason = _not_anywhere(model, guide, batch)
    return ("prior", reason) if reason else ("guide", "the density of the guide is there at any value of the latents")


def _not_anywhere(model: ProgramLike, guide: ProgramLike, batch: Batch) -> str | None:
    """Why the guide's density at a value that it did not draw is absent or costly; None where it is cheap."""
    t = terms(model, guide, batch)
    for site, q in t.q.items():
        if any("Autoregressive" in type(each).__name__ for each in getattr(family(q), "transforms", ())):
            return (
                f"site {site!r} of the guide: {describe(q)} is an autoregressive flow, whose density at a value that "
                "it did not draw takes one pass for each dimension"
            )
    try:
        score(model, guide, batch, {name: z.clone() for name, z in t.values.items() if name not in t.points})
    except (NotImplementedError, KeyError):
        return "the guide has no density at a value that it did not draw (a flow without an inverse)"
    return None
