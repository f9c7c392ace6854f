"""The order of an epoch: blocks at random, and lanes through them from which the batches take their rows in turn.

Blocks that follow each other in the order make a window, whose rows are at random. All windows, one behind the other,
are cut into lanes of equal length, and the row at place g of the epoch is row g // L of lane g % L, of L lanes. So a
batch has rows from L windows, and a process that takes every L-th row reads one lane.

From a position in the epoch to its windows, and to its rows, is a function of the seeds: an epoch goes on anywhere by
reading one window of each lane.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.protocol import Split
from ppl_vae.data.randomness import generator
from ppl_vae.data.streams.blocks import BLOCK, Blocks

WINDOW = 16 * BLOCK
"""Numbers of one window of each lane together, about: 32 MiB of float32."""
ROOM = 4
"""So many times more, at most, where blocks are large."""
LANES = 16
"""Lanes at most, a power of two as the number of processes is in most cases."""


class Windows:
    """The windows and lanes of an epoch over a split; without an epoch, the rows in their own order.

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
        small = self.seeds is None or blocks.lengths[split] * width < ROOM * WINDOW
        self.lanes = 1 if small else _lanes(int(blocks.sizes.max()) * width)
        self.length = max(1, WINDOW // self.lanes // width)
        """Rows of a window, about, if it is not one large block."""
        self.most = min(blocks.lengths[split], max(self.length, int(blocks.sizes.max())))
        """Rows of a window at most, in any epoch."""
        self.blocks = [order[first:last] for first, last in _grouped(blocks.sizes[order], self.length)]
        counts = [int(blocks.counts[split][each].sum()) for each in self.blocks]
        self.ends = np.append(0, np.cumsum(counts))
        lengths = [len(range(lane, self.rows, self.lanes)) for lane in range(self.lanes)]
        self.lane_ends = np.append(0, np.cumsum(lengths))

    @property
    def rows(self) -> int:
        return int(self.ends[-1])

    def turns(self, lanes: range, row: int) -> range:
        """Where the turns begin, in which some lanes are read from a row of theirs on: a window's length of each."""
        first = lanes[0]  # which is as long as the others, or one row longer
        return range(row, int(self.lane_ends[first + 1] - self.lane_ends[first]), self.length)

    def rows_of(self, lane: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The windows of the rows of a lane from `start` up to `stop`, and from where to where they are in each."""
        begin, end = (int(self.lane_ends[lane + i]) for i in range(2))
        start, stop = begin + start, min(begin + stop, end)
        while start < stop:
            window = int(np.searchsorted(self.ends, start, side="right")) - 1
            first, last = (int(self.ends[window + i]) for i in range(2))
            yield window, start - first, min(stop, last) - first
            start = last

    def places(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the rows from one place of the epoch up to another: the window of each, and its place in the window."""
        at = np.arange(start, stop)
        rows = self.lane_ends[at % self.lanes] + at // self.lanes
        windows = np.searchsorted(self.ends, rows, side="right") - 1
        return windows, rows - self.ends[windows]

    def order(self, window: int) -> Tensor:
        """The order of the rows of a window, as they stand in its blocks one behind the other."""
        count = int(self.ends[window + 1] - self.ends[window])
        if self.seeds is None:
            return torch.arange(count)
        return torch.randperm(count, generator=generator("window", *self.seeds, window), device="cpu")


def _lanes(largest: int) -> int:
    """How many lanes there are, by the numbers of the largest block, of which each lane holds one."""
    fit = min(LANES, ROOM * WINDOW // max(1, largest))
    return 1 << max(0, fit.bit_length() - 1)


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
