"""Running mean and variance of tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Moments:
    """Mean and variance of a list of tensors over many draws, without keeping the draws (Welford 1962).

    Each tensor of the list keeps its own shape. Draws are added one at a time.

    Args:
        increments: also keep what each draw after the first adds to each tensor's sum of squares.
    """

    def __init__(self, increments: bool = False) -> None:
        self.count = 0
        self._increments: list[list[float]] | None = [] if increments else None
        self._mean: list[Tensor] = []
        self._squares: list[Tensor] = []

    def add(self, draw: list[Tensor]) -> None:
        if not self.count:
            self._mean = [torch.zeros_like(x) for x in draw]
            self._squares = [torch.zeros_like(x) for x in draw]
        self.count += 1
        before = torch._foreach_sub(draw, self._mean)
        torch._foreach_add_(self._mean, before, alpha=1 / self.count)
        after = torch._foreach_sub(draw, self._mean)
        torch._foreach_addcmul_(self._squares, before, after)
        if self._increments is not None and self.count > 1:
            self._increments.append(sums(torch._foreach_mul(before, after)).tolist())

    @property
    def increments(self) -> Tensor:
        """Uncorrelated estimates of each tensor's summed variance, `(count − 1, tensors)`.

        Their spread gives its standard error.
        """
        return torch.tensor(self._increments, dtype=torch.float64)

    @property
    def mean(self) -> list[Tensor]:
        return self._mean

    @property
    def variance(self) -> list[Tensor]:
        """The unbiased estimate of the variance of one draw. It needs two draws."""
        return [s / (self.count - 1) for s in self._squares]


def sums(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of each tensor, `(tensors,)`, in float64."""
    return torch.stack([t.sum(dtype=torch.float64) for t in tensors]).cpu()
