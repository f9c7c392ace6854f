"""Running mean and variance of tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Moments:
    """Mean and variance of a list of tensors over many draws, in memory for two (Welford 1962).

    Each tensor of the list keeps its own shape; draws are added one at a time.

    Args:
        steps: keep, of each draw after the first, what it adds to each tensor's sum of squares: `(count − 1, tensors)`.
    """

    def __init__(self, steps: bool = False) -> None:
        self.count = 0
        self._steps: list[list[float]] | None = [] if steps else None
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
        if self._steps is not None and self.count > 1:
            self._steps.append(sums(torch._foreach_mul(before, after)).tolist())

    @property
    def steps(self) -> Tensor:
        """Uncorrelated estimates of each tensor's summed variance: their spread is its standard error."""
        return torch.tensor(self._steps, dtype=torch.float64)

    @property
    def mean(self) -> list[Tensor]:
        return self._mean

    @property
    def variance(self) -> list[Tensor]:
        """Unbiased, of one draw; needs two."""
        return [s / (self.count - 1) for s in self._squares]


def sums(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of each tensor, `(tensors,)`, in float64."""
    return torch.stack([t.sum(dtype=torch.float64) for t in tensors]).cpu()
