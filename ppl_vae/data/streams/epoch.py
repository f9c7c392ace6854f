"""An epoch over a split: its windows are read ahead, and laid out as batches by the thread that reads them."""

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.ahead import ahead
from ppl_vae.data.protocol import WHOLE, Batch, Shard, Split
from ppl_vae.data.streams.rows import BlockRows
from ppl_vae.data.streams.windows import Windows, joined


class Epoch:
    """The rows of a split in the order of an epoch; without one, in their own order."""

    def __init__(self, rows: BlockRows, split: Split, epoch: int | None, seed: int) -> None:
        self.read, self.split = rows, split
        self.draws = None if epoch is None else (seed, epoch)
        self.windows = Windows(rows.blocks, split, rows.width, epoch, seed)
        self.rows = self.windows.rows

    def batches(self, size: int, start: int = 0, shard: Shard = WHOLE) -> Iterator[Batch]:
        """So many rows at a time, from batch `start` on; of each batch the part of a process.

        Every `each`-th row of a batch comes from the same lanes, and these alone are read.
        """
        each = math.gcd(self.windows.lanes, shard.size, size)
        lanes = range(shard.rank % each, self.windows.lanes, each)
        part = Shard(shard.rank // each, shard.size // each)
        rows = joined(self._pieces(lanes, start * size // each), size // each)
        with contextlib.closing(rows):
            for _ in range(start, math.ceil(self.rows / size)):
                batch = next(rows, None) or self.read.of_split(self.split, torch.zeros(1, dtype=torch.int64))
                yield batch if part == WHOLE else _sharded(batch, part)

    def indices(self, start: int, stop: int) -> Tensor:
        """The rows from one place of the epoch up to another, as indices of their split, `(stop - start,)`."""
        windows, places = self.windows.places(start, stop)
        found = torch.empty(stop - start, dtype=torch.int64)
        by_window = np.argsort(windows, kind="stable")
        cuts = np.flatnonzero(np.diff(windows[by_window])) + 1
        for at in np.split(by_window, cuts):
            found[at] = self._indices(int(windows[at[0]]))[places[at]]
        return found

    def _pieces(self, lanes: range, row: int) -> Iterator[Batch]:
        """The rows of some lanes in turn, from one of them on: a window of each at a time."""
        count, length = len(lanes), self.windows.length
        begin, rows = row // count, int(self.windows.lane_ends[lanes[0] + 1] - self.windows.lane_ends[lanes[0]])
        rooms = [self.read.empty(self.windows.most) for _ in lanes]
        laid = [self.read.empty(min(length, rows) * count) for _ in range(2)]
        held: list[int | None] = [None] * count

        def work(turn: int) -> Batch:
            return self._turn(lanes, begin + turn * length, rooms, held, laid[turn % 2])

        with contextlib.closing(ahead(work, range(math.ceil((rows - begin) / length)))) as ready:
            for turn, found in enumerate(ready):
                yield tuple(x[row % count :] for x in found) if not turn else found

    def _turn(self, lanes: range, start: int, rooms: list[Batch], held: list[int | None], laid: Batch) -> Batch:
        """The next rows of some lanes, as many as a window has, one row of each lane after another.

        Args:
            rooms: for each lane, the rows of the window that is `held`, as they stand in its blocks.
            laid: where the rows are put down, which the turn after the next writes over.
        """
        stop, count, done = start + self.windows.length, len(lanes), [0] * len(lanes)
        cuts = [(i, *cut) for i, lane in enumerate(lanes) for cut in self.windows.rows_of(lane, start, stop)]
        blocks = [self.windows.blocks[window].tolist() for i, window, *_ in cuts if window != held[i]]
        read = self._read([block for each in blocks for block in each])
        for i, window, first, last in cuts:
            if held[i] != window:
                self._fill(rooms[i], self.windows.blocks[window].tolist(), read)
                held[i] = window
            order = self.windows.order(window)[first:last]
            for x, into in zip(rooms[i], laid, strict=True):
                into[done[i] * count + i :: count][: len(order)] = x.index_select(0, order)
            done[i] += len(order)
        return tuple(x[: sum(done)] for x in laid)

    def _read(self, blocks: list[int]) -> Iterator[Batch]:
        workers = self.read.workers
        return map(self._block, blocks) if workers == 1 else ahead(self._block, blocks, workers)

    def _block(self, block: int) -> Batch:
        return self.read.bits(self.read.read(block), block, self.split, self.draws)

    def _fill(self, room: Batch, blocks: list[int], read: Iterator[Batch]) -> None:
        """Put down the rows of blocks that are in the split, one block behind the other."""
        filled = 0
        for block, rows in zip(blocks, read, strict=False):  # blocks first, so that no row of the next window is lost
            places = self.read.blocks.places(block, self.split)
            for into, x in zip(room, rows, strict=True):
                torch.index_select(x, 0, places, out=into[filled : filled + len(places)])
            filled += len(places)

    def _indices(self, window: int) -> Tensor:
        """The rows of a window in their order, as indices of their split."""
        ends = self.read.blocks.ends[self.split]
        rows = [torch.arange(int(ends[b]), int(ends[b + 1])) for b in self.windows.blocks[window].tolist()]
        return torch.cat(rows)[self.windows.order(window)]


def _sharded(batch: Batch, shard: Shard) -> Batch:
    rows = shard.of(torch.arange(len(batch[0])))
    return tuple(x.index_select(0, rows) for x in batch)
