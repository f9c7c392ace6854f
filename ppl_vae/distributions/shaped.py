"""Numbers that are normal on a scale of their own: odd shapes, whole numbers, and values that are often repeated."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.special import log_ndtr, ndtr

BESIDE = 10
"""Whole numbers beyond the last knot that are summed one by one."""
SAME = 1e-6
"""A number so near to a spike, relatively, is the spike."""


class Shaped(dist.TorchDistribution):
    """P(x ≤ t) = Φ(c(t) − μ), c a rising function: straight lines between knots, and beyond them.

    The density is φ(c(x) − μ) c'(x). Where c jumps, at a *spike*, x has a positive probability instead. So log p(x) is
    with respect to Lebesgue's measure and one that counts the spikes: it can be compared among models with the same
    spikes. With `whole`, x is rounded to a whole number, and P(x) = Φ(c(x + ½) − μ) − Φ(c(x − ½) − μ). Where x has a
    lower bound, which is a spike or with `whole` a number, this takes all that is below. Computed in float64.

    Args:
        loc: μ, `(..., *shape)`.
        knots: not falling, `(*shape, M)`; two that are equal are a jump.
        heights: c at the knots, rising, `(*shape, M)`.
        slopes: c' below the first knot and above the last, `(*shape, 2)`.
        low: the lower bound, −∞ where there is none, `(*shape,)`.
        whole: are x whole numbers?
        spikes: where c may jump.

    Source: Liu et al. 2017 (cumulative probability models of numbers); Hothorn, Möst & Bühlmann 2018 (transformations).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.real}

    def __init__(
        self, loc: Tensor, knots: Tensor, heights: Tensor, slopes: Tensor, low: Tensor, whole: bool = False,
        spikes: Sequence[float] = (), *, validate_args: Any = None,
    ) -> None:  # fmt: skip
        self.loc, self.knots, self.heights, self.slopes = loc, knots, heights, slopes
        self.low, self.whole, self.spikes = low, whole, tuple(spikes)
        super().__init__(loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Shaped":
        loc = self.loc.expand(torch.Size(batch_shape))
        own = self.knots, self.heights, self.slopes, self.low, self.whole, self.spikes
        return Shaped(loc, *own, validate_args=False)

    @constraints.dependent_property(event_dim=0)
    def support(self) -> constraints.Constraint:
        return From(self.low, self.whole)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        x, μ = value.double(), self.loc.double()
        if self.whole:
            (below, _), (above, _) = self._scale(x - 0.5), self._scale(x + 0.5)
            below = torch.where(x - 0.5 < self.low, -torch.inf, below)
            return _log_between(below - μ, above - μ).to(self.loc.dtype)
        c, slope = self._scale(x)
        log_p = -((c - μ).square() + math.log(2 * math.pi)) / 2 + slope.log()
        for spike in self.spikes:
            at = torch.full_like(self.low, spike).double()
            (below, _), (above, _) = self._scale(at), self._scale(at, right=True)
            below = torch.where(at <= self.low, -torch.inf, below)
            here = (x - spike).abs() <= SAME * abs(spike)
            log_p = torch.where(here, _log_between(below - μ, above - μ), log_p)
        return log_p.to(self.loc.dtype)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            loc = self.loc.double().expand(torch.Size(sample_shape) + self.loc.shape)
            x, _ = self._interpolated(
                loc + torch.randn_like(loc), self.heights.double(), self.knots.double(), back=True
            )
            return torch.maximum(x.round() if self.whole else x, self.low.double()).to(self.loc.dtype)

    @property
    def mean(self) -> Tensor:
        """E[x]; with `whole`, up to what rounding moves within a piece of c that spans several numbers."""
        return self._moments()[0].to(self.loc.dtype)

    @property
    def variance(self) -> Tensor:
        mean, square = self._moments()
        return (square - mean.square()).clamp(min=0).to(self.loc.dtype)

    def _scale(self, x: Tensor, right: bool = False) -> tuple[Tensor, Tensor]:
        """c(x) and c'(x); at a spike, left or right of it."""
        return self._interpolated(x, self.knots.double(), self.heights.double(), right=right)

    def _interpolated(
        self, x: Tensor, at: Tensor, to: Tensor, back: bool = False, right: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The function through the points (at, to), `(*shape, M)`, and its slope, at x, `(..., *shape)`.

        Args:
            back: it is the inverse of c.
            right: at a jump, take the upper end.
        """
        x = x.expand(torch.broadcast_shapes(x.shape, at.shape[:-1]))
        ends = 1 / self.slopes.double() if back else self.slopes.double()
        columns = at[..., 0].numel()
        at, to, ends = at.reshape(columns, -1), to.reshape(columns, -1), ends.reshape(columns, 2)
        rows = x.reshape(-1, columns).T.contiguous()
        place = torch.searchsorted(at.contiguous(), rows, right=right)  # 0: before the first, M: after the last
        width = at.diff()
        inner = to.diff() / torch.where(width > 0, width, torch.ones_like(width))
        slopes = torch.cat([ends[:, :1], inner, ends[:, 1:]], 1).gather(1, place)
        origin = (place - 1).clamp(min=0)
        y = to.gather(1, origin) + slopes * (rows - at.gather(1, origin))
        return y.T.reshape(x.shape), slopes.T.reshape(x.shape)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """E[x] and E[x²], by the integrals of φ(t), t φ(t) and t² φ(t) over each piece, t = c(x) − μ."""
        knots, heights, slopes = self.knots.double(), self.heights.double(), self.slopes.double()
        if self.whole:  # the numbers next to the ends, each as a piece of its own
            steps = torch.arange(1, BESIDE + 1).to(knots)
            left, right = slopes.unsqueeze(-1).unbind(-2)
            heights = torch.cat(
                [heights[..., :1] - left * steps.flip(-1), heights, heights[..., -1:] + right * steps], -1
            )
            knots = torch.cat([knots[..., :1] - steps.flip(-1), knots, knots[..., -1:] + steps], -1)
        t = heights - self.loc.double().unsqueeze(-1)
        nothing, φ = torch.zeros_like(t[..., :1]), torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
        P = torch.cat([ndtr(t[..., :1]), _log_between(t[..., :-1], t[..., 1:]).exp(), ndtr(-t[..., -1:])], -1)
        tφ = t * φ
        first = torch.cat([nothing, φ], -1) - torch.cat([φ, nothing], -1)
        second = P + torch.cat([nothing, tφ], -1) - torch.cat([tφ, nothing], -1)
        width = knots.diff()
        unit = torch.cat([1 / slopes[..., :1], width / heights.diff(), 1 / slopes[..., 1:]], -1)
        origin = torch.cat([knots[..., :1], knots], -1) - unit * torch.cat([t[..., :1], t], -1)
        if self.whole:  # a piece of one number
            single = torch.nn.functional.pad((width < 1.001).double(), (1, 1)) > 0
            middle = torch.cat([knots[..., :1], (knots[..., 1:] + knots[..., :-1]) / 2, knots[..., -1:]], -1).round()
            origin, unit = torch.where(single, middle, origin), torch.where(single, 0.0, unit)
        bound = torch.cat([knots, torch.full_like(knots[..., :1], torch.inf)], -1) <= self.low.double().unsqueeze(-1)
        origin, unit = torch.where(bound, self.low.double().unsqueeze(-1), origin), torch.where(bound, 0.0, unit)
        mean = (origin * P + unit * first).sum(-1)
        square = (origin.square() * P + 2 * origin * unit * first + unit.square() * second).sum(-1)
        return mean, square


class From(constraints.Constraint):
    """Numbers from `low` on, whole ones or any."""

    def __init__(self, low: Tensor, whole: bool) -> None:
        self.low, self.is_discrete = low, whole
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        inside = (value >= self.low - SAME * self.low.abs()) & value.isfinite()
        return inside & (value == value.round()) if self.is_discrete else inside

    def __repr__(self) -> str:
        return "whole numbers" * self.is_discrete or "numbers"


def _log_between(a: Tensor, b: Tensor) -> Tensor:
    """log (Φ(b) − Φ(a)), a < b, of float64: by the tail in which both are small."""
    swap = a + b > 0
    a, b = torch.where(swap, -b, a), torch.where(swap, -a, b)
    bottom, top = log_ndtr(a.clamp(min=-1e150)), log_ndtr(b)
    return top + (-torch.expm1(bottom - top)).log()
