"""An epoch over a split: its windows are read ahead, and laid out as batches by the thread that reads them."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_vae.data.ahead import ahead
from ppl_vae.data.protocol import Batch, Split
from ppl_vae.data.streams.rows import BlockRows
from ppl_vae.data.streams.windows import Windows, joined


class Epoch:
    """The rows of a split in the order of an epoch; without one, in their own order."""

    def __init__(self, rows: BlockRows, split: Split, epoch: int | None, seed: int) -> None:
        self.read, self.split = rows, split
        self.draws = None if epoch is None else (seed, epoch)
        self.windows = Windows(rows.blocks, split, rows.width, epoch, seed)
        self.rows = self.windows.rows

    def batches(self, size: int, row: int = 0) -> Iterator[Batch]:
        """So many rows at a time, from a row of the epoch on, where a batch begins."""
        read, *laid = (self.read.empty(self.windows.most) for _ in range(3))
        wanted = range(self.windows.at(row), len(self.windows))
        work = lambda window: self._window(window, read, laid[window % 2])  # noqa: E731
        with contextlib.closing(ahead(work, wanted)) as ready:
            yield from joined(self._pieces(ready, wanted, size, row), size)

    def indices(self, start: int, stop: int) -> Tensor:
        """The rows from one place of the epoch up to another, as indices of their split, `(stop - start,)`."""
        first, last = self.windows.at(start), self.windows.at(stop - 1)
        found = torch.cat([self._indices(window) for window in range(first, last + 1)])
        return found[start - int(self.windows.ends[first]) :][: stop - start]

    def _pieces(self, ready: Iterator[Batch], wanted: range, size: int, row: int) -> Iterator[Batch]:
        """The rows of windows from a row of the epoch on, cut where batches end."""
        for window, rows in zip(wanted, ready, strict=True):
            for start, stop in self.windows.cuts(window, size, row):
                yield tuple(x[start:stop] for x in rows)

    def _window(self, window: int, room: Batch, laid: Batch) -> Batch:
        """The rows of a window in their order.

        Args:
            room: where they are put down as they are read, which each window writes over.
            laid: where they are in their order, which the window after the next writes over.
        """
        order, filled = self.windows.order(window), 0
        found, laid = (tuple(x[: len(order)] for x in each) for each in (room, laid))
        read, blocks = self.read, self.windows.blocks[window].tolist()
        for block, rows in zip(blocks, _read(read, blocks), strict=True):
            places = read.blocks.places(block, self.split)
            for into, x in zip(found, read.bits(rows, block, self.split, self.draws), strict=True):
                torch.index_select(x, 0, places, out=into[filled : filled + len(places)])
            filled += len(places)
        for x, into in zip(found, laid, strict=True):
            torch.index_select(x, 0, order, out=into)
        return laid

    def _indices(self, window: int) -> Tensor:
        """The rows of a window in their order, as indices of their split."""
        ends = self.read.blocks.ends[self.split]
        rows = [torch.arange(int(ends[b]), int(ends[b + 1])) for b in self.windows.blocks[window].tolist()]
        return torch.cat(rows)[self.windows.order(window)]


def _read(rows: BlockRows, blocks: list[int]) -> Iterator[Batch]:
    return map(rows.read, blocks) if rows.workers == 1 else ahead(rows.read, blocks, rows.workers)
