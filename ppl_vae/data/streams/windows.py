"""The order of an epoch: blocks at random, some of them as a window in memory, and the rows of a window at random.

From a position in the epoch to its window, and to its rows, is a function of the seeds: an epoch goes on anywhere by
reading one window.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.protocol import Batch, Split
from ppl_vae.data.randomness import generator
from ppl_vae.data.streams.blocks import BLOCK, Blocks

WINDOW = 16 * BLOCK
"""Numbers of a window, about: 32 MiB of float32."""


class Windows:
    """The windows of an epoch over a split; without an epoch, the rows in their own order.

    Args:
        width: how many numbers a row has.
    """

    def __init__(self, blocks: Blocks, split: Split, width: int, epoch: int | None, seed: int) -> None:
        self.seeds = None if epoch is None else (seed, epoch)
        if self.seeds is None:
            order = np.arange(len(blocks))
        else:
            order = torch.randperm(len(blocks), generator=generator("blocks", *self.seeds), device="cpu").numpy()
        order = order[blocks.counts[split][order] > 0]
        self.blocks = [order[first:last] for first, last in _grouped(blocks.sizes[order], max(1, WINDOW // width))]
        counts = [int(blocks.counts[split][each].sum()) for each in self.blocks]
        self.ends = np.append(0, np.cumsum(counts))

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def rows(self) -> int:
        return int(self.ends[-1])

    @property
    def most(self) -> int:
        """The rows of the largest window."""
        return int(np.diff(self.ends).max())

    def at(self, row: int) -> int:
        """The window of the row at a place of the epoch; their number for the place behind the last."""
        return int(np.searchsorted(self.ends, row, side="right")) - 1

    def order(self, window: int) -> Tensor:
        """The order of the rows of a window, as they stand in its blocks one behind the other."""
        count = int(self.ends[window + 1] - self.ends[window])
        if self.seeds is None:
            return torch.arange(count)
        return torch.randperm(count, generator=generator("window", *self.seeds, window), device="cpu")

    def cuts(self, window: int, size: int, row: int) -> Iterator[tuple[int, int]]:
        """Where batches of a size, counted from the start of the epoch, begin and end in a window, from a row on."""
        begin, end = int(self.ends[window]), int(self.ends[window + 1])
        start = max(begin, row)
        while start < end:
            stop = min(end, (start // size + 1) * size)
            yield start - begin, stop - begin
            start = stop


def _grouped(sizes: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Blocks that follow each other and have at most so many rows together, or one of more."""
    first, taken = 0, 0
    for i, size in enumerate(sizes.tolist()):
        if taken and taken + size > most:
            yield first, i
            first, taken = i, 0
        taken += size
    if taken:
        yield first, len(sizes)


def joined(pieces: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Batches, as tensors of their own, from pieces of them; the last one may be shorter."""
    parts, count = list[Batch](), 0
    for piece in pieces:
        parts.append(tuple(x.clone() for x in piece))
        count += len(piece[0])
        if count == size:
            yield _cat(parts)
            parts, count = [], 0
    if parts:
        yield _cat(parts)


def _cat(parts: list[Batch]) -> Batch:
    return parts[0] if len(parts) == 1 else tuple(torch.cat(each) for each in zip(*parts, strict=True))
