"""The rows of an epoch over a split: which they are, and windows of them read and put in their order."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.ahead import ahead
from ppl_vae.data.protocol import Batch, Split
from ppl_vae.data.streams.rows import BlockRows, Draws
from ppl_vae.data.streams.windows import Windows


class Epoch:
    """The rows of a split in the order of an epoch; without one, in their own order."""

    def __init__(self, rows: BlockRows, split: Split, epoch: int | None, seed: int) -> None:
        self.read, self.split = rows, split
        self.draws = None if epoch is None else (seed, epoch)
        self.windows = Windows(rows.blocks, split, rows.width, epoch, seed)

    def indices(self, start: int, stop: int) -> Tensor:
        """The rows from one place of the epoch up to another, as indices of their split, `(stop - start,)`."""
        windows, places = self.windows.places(start, stop)
        found = torch.empty(stop - start, dtype=torch.int64)
        by_window = np.argsort(windows, kind="stable")
        cuts = np.flatnonzero(np.diff(windows[by_window])) + 1
        for at in np.split(by_window, cuts):
            found[at] = self._indices(int(windows[at[0]]))[places[at]]
        return found

    def turn(self, lanes: range, start: int, rooms: list["Room"], laid: Batch) -> Batch:
        """The rows of some lanes from one place of theirs on, as many as a window has, one of each lane after another.

        Args:
            rooms: one for each lane, for the window that it has come to.
            laid: where the rows are put down.
        """
        stop, count, done = start + self.windows.length, len(lanes), [0] * len(lanes)
        cuts = [(i, *cut) for i, lane in enumerate(lanes) for cut in self.windows.rows_of(lane, start, stop)]
        blocks = [
            self.windows.blocks[window].tolist() for i, window, *_ in cuts if rooms[i].holds != (self.draws, window)
        ]
        read = self._read([block for each in blocks for block in each])
        for i, window, first, last in cuts:
            if rooms[i].holds != (self.draws, window):
                self._fill(rooms[i], window, read)
            order = self.windows.order(window)[first:last]
            for x, into in zip(rooms[i].rows, laid, strict=True):
                into[done[i] * count + i :: count][: len(order)] = x.index_select(0, order)
            done[i] += len(order)
        return tuple(x[: sum(done)] for x in laid)

    def _read(self, blocks: list[int]) -> Iterator[Batch]:
        workers = self.read.workers
        return map(self._block, blocks) if workers == 1 else ahead(self._block, blocks, workers)

    def _block(self, block: int) -> Batch:
        return self.read.bits(self.read.read(block), block, self.split, self.draws)

    def _fill(self, room: "Room", window: int, read: Iterator[Batch]) -> None:
        """Put down the rows of the next blocks, which are those of a window, as far as they are in the split."""
        filled = 0
        for block in self.windows.blocks[window].tolist():
            places = self.read.blocks.places(block, self.split)
            for into, x in zip(room.rows, next(read), strict=True):
                torch.index_select(x, 0, places, out=into[filled : filled + len(places)])
            filled += len(places)
        room.holds = self.draws, window

    def _indices(self, window: int) -> Tensor:
        """The rows of a window in their order, as indices of their split."""
        ends = self.read.blocks.ends[self.split]
        rows = [torch.arange(int(ends[b]), int(ends[b + 1])) for b in self.windows.blocks[window].tolist()]
        return torch.cat(rows)[self.windows.order(window)]


class Room:
    """Memory for the rows of one window, as they stand in its blocks one behind the other."""

    def __init__(self, rows: Batch) -> None:
        self.rows = rows
        self.holds: tuple[Draws, int] | None = None
