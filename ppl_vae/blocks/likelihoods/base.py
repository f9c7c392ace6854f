"""What all likelihoods have in common."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.core.errors import InputError


class Likelihood(nn.Module):
    """What all have in common: `params` numbers per dimension, the first of all dimensions first."""

    def __init__(self, data_shape: tuple[int, ...], params: int = 1) -> None:
        super().__init__()
        self.data_shape, self.params = tuple(data_shape), params
        self.size = params * math.prod(data_shape)

    def forward(self, raw: Tensor) -> dist.Distribution:
        """`(..., size)` to a distribution of batch shape `(...)`.

        Raises:
            InputError: another number of numbers.
        """
        check_size(self, raw)
        parts = raw.unflatten(-1, (self.params, *self.data_shape)).movedim(-1 - len(self.data_shape), 0)
        return self.distribution(parts).to_event(len(self.data_shape))

    def distribution(self, raw: Tensor) -> dist.Distribution:
        """`(params, ..., *data_shape)` to a distribution of batch shape `(..., *data_shape)`."""
        raise NotImplementedError


def check_size(likelihood: Any, raw: Tensor) -> None:
    """Raise `InputError` unless the network gives as many numbers as the likelihood asks for."""
    if raw.shape[-1] != likelihood.size:
        raise InputError(
            f"{type(likelihood).__name__} asks for {likelihood.size} numbers, the network gives {raw.shape[-1]}: "
            "make its last layer as wide as the likelihood's size"
        )


def moments(data: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over rows, NaN left out; 0 and 1 where there is nothing, 1 for a constant.

    A column is first divided by a power of two, which rounds nothing, so that no square is too large for its dtype.
    """
    low, high = data.nan_to_num(torch.inf).amin(0), data.nan_to_num(-torch.inf).amax(0)
    size = torch.maximum(low.abs(), high.abs()).nan_to_num(posinf=1.0)  # a column of nothing is from ∞ to −∞
    unit = torch.ldexp(torch.ones_like(size), size.frexp().exponent - 1)
    data = data / unit
    center = data.nanmean(0).nan_to_num()
    spread = (data - center).square().nanmean(0).nan_to_num().sqrt()
    return center * unit, torch.where(low >= high, torch.ones_like(spread), spread * unit)
