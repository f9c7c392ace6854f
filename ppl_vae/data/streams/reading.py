"""Batches of a stream, whose rows are read and laid out by a thread before they are asked for."""

import itertools
import math
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ppl_vae.data.protocol import WHOLE, Batch, Shard, Split
from ppl_vae.data.streams.epoch import Epoch, Room
from ppl_vae.data.streams.rows import BlockRows


class Begun(NamedTuple):
    """The first turn of an epoch, which is being read.

    Args:
        process: the one that reads it; one that is forked from it has no such thread.
        rooms: for the windows of the lanes.
        laid: where turns are laid down, one after another; this one in the first place.
    """

    process: int
    epoch: int
    turn: "Future[Batch]"
    rooms: list[Room]
    laid: list[Batch]


@dataclass
class Reading:
    """The batches of a split, epoch by epoch; of each batch the part of one process.

    Of a batch, every `each`-th row comes from the same lanes, and a process reads these alone. The next epoch is begun
    while the last batches of the one before are in use.

    Args:
        size: how many rows a batch has.
        seed: by which the rows are shuffled.
    """

    read: BlockRows
    split: Split
    size: int
    seed: int = 0
    shard: Shard = WHOLE
    begun: Begun | None = field(default=None, init=False, compare=False)

    def batches(self, epoch: int | None, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; without an epoch, of the rows in their own order."""
        windows, (rank, size) = self._epoch(epoch).windows, self.shard
        each = math.gcd(windows.lanes, size, self.size)
        lanes, part = range(rank % each, windows.lanes, each), Shard(rank // each, size // each)
        begin, skipped = divmod(start * self.size // each, len(lanes))
        begun, self.begun = self.begun, None  # nobody else is to take it
        if begun is not None and (begun.process, begun.epoch, 0) != (os.getpid(), epoch, start):
            begun = None
        rows = _joined(_without(self._turns(epoch, lanes, begin, begun), skipped), self.size // each)
        for _ in range(start, math.ceil(windows.rows / self.size)):
            batch = next(rows, None) or self.read.of_split(self.split, torch.zeros(1, dtype=torch.int64))
            yield batch if part == WHOLE else _sharded(batch, part)
        assert next(rows, None) is None

    def _turns(self, epoch: int | None, lanes: range, begin: int, begun: Begun | None) -> Iterator[Batch]:
        """The turns of an epoch from a row of the lanes on; behind the last one, the next epoch is begun."""
        found = self._epoch(epoch)
        windows = found.windows
        wanted = [(found, start) for start in windows.turns(lanes, begin)]
        if epoch is not None:
            wanted.append((self._epoch(epoch + 1), 0))
        rooms = begun.rooms if begun else [Room(self.read.empty(windows.most)) for _ in lanes]
        most = min(windows.length * len(lanes), windows.rows)
        laid = begun.laid if begun else [self.read.empty(most) for _ in range(2)]
        pool, ended = ThreadPoolExecutor(1, "ahead"), False
        try:
            turns = [begun.turn] if begun else []
            wait(turns)  # another thread reads it, and into the rooms of the turns behind it
            for (of, start), into in itertools.islice(zip(wanted, itertools.cycle(laid)), len(turns), None):
                turns.append(pool.submit(of.turn, lanes, start, rooms, into))
                if len(turns) > 1:
                    yield turns.pop(0).result()
            if epoch is None:
                yield from (turn.result() for turn in turns)
            else:
                self.begun = Begun(os.getpid(), epoch + 1, turns.pop(), rooms, laid if len(wanted) % 2 else laid[::-1])
            ended = True
        finally:
            pool.shutdown(wait=not ended, cancel_futures=not ended)

    def _epoch(self, epoch: int | None) -> Epoch:
        return Epoch(self.read, self.split, epoch, self.seed)


def _without(turns: Iterator[Batch], count: int) -> Iterator[Batch]:
    """The rows of the turns, but for the first ones."""
    for rows in turns:
        yield tuple(x[count:] for x in rows)
        count = 0


def _joined(turns: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Batches, as tensors of their own, from the rows of turns; the last one may be shorter."""
    parts, count = list[Batch](), 0
    for rows in turns:
        start = 0
        while start < len(rows[0]):
            stop = min(len(rows[0]), start + size - count)
            parts.append(tuple(x[start:stop].clone() for x in rows))
            count += stop - start
            if count == size:
                yield _cat(parts)
                parts, count = [], 0
            start = stop
    if parts:
        yield _cat(parts)


def _cat(parts: list[Batch]) -> Batch:
    return parts[0] if len(parts) == 1 else tuple(torch.cat(each) for each in zip(*parts, strict=True))


def _sharded(batch: Batch, shard: Shard) -> Batch:
    rows = shard.of(torch.arange(len(batch[0])))
    return tuple(x.index_select(0, rows) for x in batch)
