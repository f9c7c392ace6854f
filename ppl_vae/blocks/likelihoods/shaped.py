"""Numbers of any shape: a normal distribution on a scale that is learned."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae import distributions
from ppl_vae.blocks.likelihoods.base import Likelihood
from ppl_vae.core.errors import at_least

LEAST = 1e-4
"""By so much c rises at least from one knot to the next."""


class Shaped(Likelihood):
    """P(x ≤ t) = Φ(c(t) − raw), c a rising function that is learned in each dimension, straight between its knots.

    It begins with c at which the distribution is that of the data. See `distributions.Shaped`.

    Args:
        data: rows, `(N, *data_shape)`, NaN for a missing cell: their quantiles are the knots.
        whole: x are whole numbers, which have probabilities. Each quantile then gives two knots, at ± ½ from it.
        spikes: numbers with a probability of their own.
        pieces: how many quantiles.
    """

    name = "shaped"
    knots: Tensor
    low: Tensor
    slopes: Tensor

    def __init__(
        self, data_shape: tuple[int, ...], data: Tensor | None = None, whole: bool = False,
        spikes: Sequence[float] = (), pieces: int = 16,
    ) -> None:  # fmt: skip
        at_least(2, pieces=pieces)
        super().__init__(data_shape)
        dtype = torch.get_default_dtype()
        self.whole, self.spikes = whole, tuple(torch.tensor(sorted(spikes)).to(dtype).tolist())  # as the knots are kept
        normal = torch.linspace(-3, 3, 200).reshape(-1, *[1] * len(data_shape)).expand(-1, *data_shape)
        rows = normal if data is None else data
        columns = rows.to(dtype).double().reshape(len(rows), -1).T
        made = [_start(x[~x.isnan()], whole, self.spikes, pieces) for x in columns]
        knots, heights, slopes, low = (torch.stack(each).reshape(*data_shape, -1) for each in zip(*made, strict=True))
        self.register_buffer("knots", knots.to(dtype))
        self.register_buffer("low", low[..., 0].to(dtype))
        self.first = nn.Parameter(heights[..., :1].to(dtype))
        rises = (heights.diff() - LEAST).clamp(min=LEAST)
        self.rises = nn.Parameter((rises + (-torch.expm1(-rises)).log()).to(dtype))  # softplus backwards
        self.register_buffer("slopes", slopes.to(dtype))

    def distribution(self, raw: Tensor) -> distributions.Shaped:
        rises = softplus(self.rises) + LEAST
        heights = torch.cat([self.first, self.first + rises.cumsum(-1)], -1)
        own = self.knots, heights, self.slopes, self.low
        return distributions.Shaped(raw[0], *own, self.whole, self.spikes)


def _start(x: Tensor, whole: bool, spikes: Sequence[float], pieces: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Knots `(M,)`, heights `(M,)`, slopes `(2,)` and the smallest number `(1,)` of a column of numbers `(n,)`."""
    jumps = torch.tensor(spikes, dtype=x.dtype)
    for jump in jumps:
        x = torch.where((x - jump).abs() <= distributions.SAME * jump.abs(), jump, x)
    rest = x[~torch.isin(x, jumps)]
    if not len(rest):
        rest = torch.linspace(-2, 2, pieces, dtype=x.dtype)
    values = rest.sort().values[torch.linspace(0, len(rest) - 1, pieces).round().long()].unique()
    if len(values) < 2:
        values = torch.cat([values - 0.5, values + 0.5])
    if whole:
        values = torch.cat([values.round() - 0.5, values.round() + 0.5]).unique()
    values = _filled(values, pieces * (1 + whole))
    knots = torch.cat([values, jumps.repeat_interleave(2)]).sort(stable=True).values
    below, upto = ((compare(x.unsqueeze(1), knots)).sum(0) for compare in (torch.lt, torch.le))
    count = (below + upto) / 2
    start = torch.cat([knots.diff() == 0, torch.tensor([False])])
    end = start.roll(1)
    count = torch.where(start, below, torch.where(end, upto, count))
    heights = torch.special.ndtri((count + 0.5) / (len(x) + 1))
    heights = _rising(heights)
    middle = len(knots) // 2
    slopes = torch.stack([
        (heights[middle] - heights[0]) / (knots[middle] - knots[0]).clamp(min=1e-6),
        (heights[-1] - heights[middle]) / (knots[-1] - knots[middle]).clamp(min=1e-6),
    ])  # fmt: skip
    bounded = (whole and len(x) and x.min() >= 0) or (len(jumps) and len(x) and x.min() >= jumps[0])
    low = 0.0 if whole else jumps[0] if len(jumps) else 0.0
    return knots, heights, slopes.clamp(min=1e-6), torch.tensor([low if bounded else -torch.inf], dtype=x.dtype)


def _filled(values: Tensor, size: int) -> Tensor:
    """So many rising numbers: the widest gaps are halved."""
    while len(values) < size:
        widest = values.diff().argmax()
        values = torch.cat([values[: widest + 1], values[widest : widest + 2].mean().reshape(1), values[widest + 1 :]])
    return values


def _rising(heights: Tensor) -> Tensor:
    """The heights, each at least a bit above the one before."""
    step = 2 * LEAST * torch.arange(len(heights))
    return (heights - step).cummax(0).values + step
