"""What is known of the columns of many rows, found a part of the rows at a time."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError


class Extent(NamedTuple):
    """Of each column of a field: its smallest and its largest number, and whether there is one at all, `(D,)` each.

    A field of one number a row has one column. A column without a number is from ∞ to −∞.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "Extent":
        """That of rows, `(rows, *shape)`."""
        x = x.unsqueeze(1) if x.dim() == 1 else x
        seen = ~x.isnan()
        low = x.where(seen, x.new_full((), math.inf) if x.is_floating_point() else x).amin(0)
        high = x.where(seen, x.new_full((), -math.inf) if x.is_floating_point() else x).amax(0)
        return cls(low, high, seen.any(0))

    def with_(self, other: "Extent") -> "Extent":
        """That of both together."""
        low, high = torch.minimum(self.low, other.low), torch.maximum(self.high, other.high)
        return Extent(low, high, self.seen | other.seen)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest number of all columns."""
        return self.low.min().item(), self.high.max().item()


class Running(NamedTuple):
    """Of each column how many numbers there were, their mean, and the sum of their squared distances from it.

    NaN is left out. Two of them are put together as by Chan, Golub & LeVeque (1983).
    """

    seen: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "Running":
        """That of rows, `(rows, *shape)`, in float64; no row is none of any column."""
        x = x.double()
        mean = x.nanmean(0).nan_to_num()
        return cls((~x.isnan()).sum(0).double(), mean, (x - mean).square().nansum(0))

    def with_(self, other: "Running") -> "Running":
        """That of both together."""
        total = self.seen + other.seen
        away, share = other.mean - self.mean, (other.seen / total).nan_to_num()
        squares = self.squares + other.squares + away.square() * self.seen * share
        return Running(total, self.mean + away * share, squares)

    def moments(self) -> tuple[Tensor, Tensor]:
        """As `blocks.likelihoods.base.moments` of all rows together, up to rounding.

        Raises:
            InputError: a column's squares are too large for float64.
        """
        if (large := ~self.squares.isfinite()).any():
            raise InputError(
                f"column {int(large.flatten().int().argmax())} holds numbers whose squares are too large for float64: "
                "divide it by a power of ten"
            )
        spread = (self.squares / self.seen).nan_to_num().sqrt()
        constant = spread <= 1e-13 * self.mean.abs()  # what rounding leaves of a constant
        return self.mean, torch.where(constant, torch.ones_like(spread), spread)
