"""Running mean and variance of tensors."""

import torch
from torch import Tensor


class Moments:
    """Mean and variance of a list of tensors over many draws, in memory for two (Welford 1962).

    Each tensor of the list keeps its own shape; draws are added one at a time.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: list[Tensor] = []
        self._squares: list[Tensor] = []

    def add(self, draw: list[Tensor]) -> None:
        if not self.count:
            self._mean = [torch.zeros_like(x) for x in draw]
            self._squares = [torch.zeros_like(x) for x in draw]
        self.count += 1
        before = torch._foreach_sub(draw, self._mean)
        torch._foreach_add_(self._mean, before, alpha=1 / self.count)
        torch._foreach_addcmul_(self._squares, before, torch._foreach_sub(draw, self._mean))

    @property
    def mean(self) -> list[Tensor]:
        return self._mean

    @property
    def variance(self) -> list[Tensor]:
        """Unbiased, of one draw; needs two."""
        return [s / (self.count - 1) for s in self._squares]
