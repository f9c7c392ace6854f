"""Data on a common scale, for the networks that read them."""

import torch
from torch import Tensor, nn

from ppl_vae.blocks.likelihoods.base import moments


class Standardized(nn.Module):
    """x -> (x − center)/spread, with the mean and standard deviation of each dimension over the rows of `data`.

    A network that reads columns of 1680 and of 0.1 side by side sees the one and not the other, and what it gives is
    too large for float32 to tell two rows apart. `inverse` takes a decoder's numbers back to the scale of the data.

    Data that lie in [0, 1] as a whole, such as pixels and bits, are on a common scale: they are left as they are
    (center 0, spread 1), for a pixel that is seldom on would be blown up. So is all where no data are given. A constant
    has spread 1, and missing cells (NaN) are left out. Both are buffers: a run keeps them.

    Args:
        data: rows, `(N, *data_shape)`.
        always: also where the data lie in [0, 1].
    """

    center: Tensor
    spread: Tensor

    def __init__(self, data_shape: tuple[int, ...], data: Tensor | None = None, *, always: bool = False) -> None:
        super().__init__()
        center, spread = torch.zeros(data_shape), torch.ones(data_shape)
        if data is not None:
            measured = (part.to(data.dtype) for part in moments(data.double()))
            kept = (center.to(data), spread.to(data))
            center, spread = measured if always or not in_unit_interval(data) else kept
        self.register_buffer("center", center)
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.center) / self.spread

    def inverse(self, u: Tensor) -> Tensor:
        """u -> center + spread · u."""
        return self.center + self.spread * u


def in_unit_interval(data: Tensor) -> bool:
    """Does every number that is there lie in [0, 1]?"""
    return bool(((data >= 0) & (data <= 1) | data.isnan()).all())
