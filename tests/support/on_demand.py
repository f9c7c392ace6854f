"""Data that are never held: each row is made from its number when it is asked for."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ppl_vae.data import Data
from ppl_vae.data.protocol import Batch, Split


@dataclass
class OnDemand(Data):
    """Rows x = w z + noise of four columns; `most` is the largest number of rows that were asked for at once."""

    most: int = 0
    name = "on demand"
    fields = ("x",)
    shapes = ((4,),)
    dtypes = (torch.float32,)
    lengths: dict[Split, int] = field(default_factory=lambda: {"train": 90, "valid": 12, "test": 11})  # type: ignore[assignment]
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)  # type: ignore[assignment]
    image = None
    binarize = "none"
    sha256 = "made from the numbers of the rows"

    def rows(self, split: Split, indices: Tensor) -> Batch:
        self.most = max(self.most, len(indices))
        numbers = self.numbers(split)[indices].tolist()
        return (torch.stack([row(number) for number in numbers]),)


def row(number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    z, noise = torch.randn(1, generator=generator), torch.randn(4, generator=generator)
    return z * torch.tensor([1.0, -1.0, 2.0, 0.5]) + 0.5 * noise
