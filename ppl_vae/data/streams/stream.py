"""Data whose rows stay in their files: blocks of them are read ahead of the batches that need them."""

import contextlib
import hashlib
import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.data.ahead import ahead
from ppl_vae.data.binarize import binarized, draw
from ppl_vae.data.dataset import image_shape
from ppl_vae.data.protocol import CHUNK, WHOLE, Batch, Data, Extent, Shard, Split, counted, from_start
from ppl_vae.data.randomness import generator, integer
from ppl_vae.data.streams.blocks import HELD, Blocks
from ppl_vae.data.streams.field import Field
from ppl_vae.data.streams.scan import Scan, files_of, scan
from ppl_vae.data.streams.stores.csv import Csv
from ppl_vae.data.streams.windows import Windows, joined

PLACES = 16
"""From so many places of a split come the rows that stand for it."""


@dataclass(eq=False)
class Stream(Data):
    """Rows in files, of which two windows are in memory at a time.

    The rows of a split have the order of the files. Under `binarize` `once` and `epoch` the draws are those of a
    generator for each block, so that they are not those of a `Dataset` of the same rows.

    Args:
        sources: the fields, each with its store.
        blocks: where the blocks are, and the split.
        recorded: what a run knows of these files, as `about` said it, with `sha256`. Where all of them are as they
            were, they are not read to be checked.
    """

    name: str
    sources: Sequence[Field] = field(repr=False)
    blocks: Blocks = field(repr=False)
    binarize: str
    recorded: Mapping[str, Any] | None = field(default=None, repr=False)
    files: list[list[Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.files = files_of(self.sources)
        self.held: tuple[int, Batch] | None = None
        self.valid: Batch | None = None
        known = self.recorded or {}
        self.state = hashlib.sha256(json.dumps(self.files).encode()).hexdigest()
        self.checked = known.get("state") == self.state and known.get("blocks") == self.blocks.digest
        self.workers = max(each.store.workers for each in self.sources)
        self.width = sum(math.prod(shape) for shape in self.shapes)

    # ---- what every kind of data says

    @property
    def fields(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(each.name for each in self.sources)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:  # type: ignore[override]
        return tuple(each.shape for each in self.sources)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:  # type: ignore[override]
        return tuple(each.dtype for each in self.sources)

    @property
    def lengths(self) -> dict[Split, int]:  # type: ignore[override]
        return self.blocks.lengths

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]
        return {each.name: each.columns for each in self.sources if each.columns}

    @property
    def image(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return image_shape(self.shapes[0])

    @cached_property
    def scan(self) -> Scan:
        """What a pass over all rows finds."""
        return scan(self.sources, self.blocks)

    @property
    def sha256(self) -> str:  # type: ignore[override]
        return str(self.recorded["sha256"]) if self.checked and self.recorded else self.scan.sha256

    def extent(self, field: int = 0) -> Extent:
        return self.scan.extents[field]

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.scan.moments

    def with_missing(self, count: int) -> list[int]:
        found = self.recorded["missing"] if self.checked and self.recorded else self.scan.missing
        return list(found[:count])

    def about(self) -> dict[str, Any]:
        """What a run keeps: `state` and `blocks`, by which the files and the split are known again."""
        size = sum(size for _, size, _ in self.files)
        known = {"files": len(self.files), "bytes": size, "state": self.state, "blocks": self.blocks.digest}
        places = [str(each.store.converted) for each in self.sources if isinstance(each.store, Csv)]
        return known | {"missing": self.with_missing(PLACES)} | ({"converted": places} if places else {})

    def describe(self) -> str:
        """One line: name, rows of each split, shape of each field, binarization, and from what they are read."""
        fields = ", ".join(f"{name} {shape}" for name, shape in zip(self.fields, self.shapes, strict=True))
        size = memory.gigabytes(sum(size for _, size, _ in self.files))
        files = f"{len(self.files)} file{'s' * (len(self.files) > 1)}"
        return f"{self.name}: {counted(self)} rows, {fields}, binarize {self.binarize}; streamed from {files} of {size}"

    def fixed(self) -> "Stream":
        return replace(self, binarize="once") if self.binarize == "epoch" else self

    # ---- rows

    def numbers(self, split: Split, indices: Tensor | None = None) -> Tensor:
        indices = torch.arange(self.lengths[split]) if indices is None else indices
        found = torch.empty(len(indices), dtype=torch.int64)
        for block, at, places in self._by_block(split, indices):
            found[at] = int(self.blocks.edges[block]) + places
        return found

    def rows(self, split: Split, indices: Tensor) -> Batch:
        found = self._empty(len(indices))
        for block, at, places in self._by_block(split, indices):
            for into, x in zip(found, self._bits(self._held(block), block, split), strict=True):
                into[at] = x.index_select(0, places)
        return found

    def by_number(self, numbers: Tensor) -> Batch:
        """The rows that stand at these places of the files, `(n,)`, whatever split they are in."""
        found = self._empty(len(numbers))
        of = self.blocks.of_numbers(numbers)
        for block in of.unique().tolist():
            at = (of == block).nonzero().flatten()
            for into, x in zip(found, self._bits(self._held(block), block, "test"), strict=True):
                into[at] = x.index_select(0, numbers[at] - int(self.blocks.edges[block]))
        return found

    def whole(self, split: Split) -> Batch:
        return self.rows(split, torch.arange(self.lengths[split]))

    def first(self, count: int, split: Split = "train") -> Batch:
        """Rows from some places that are spread over the whole split: files are often sorted."""
        length = self.lengths[split]
        if count >= length:
            return self.whole(split)
        places = min(count, PLACES)
        starts = torch.arange(places) * length // places
        each = [len(part) for part in torch.arange(count).tensor_split(places)]
        return self.rows(split, torch.cat([start + torch.arange(n) for start, n in zip(starts, each, strict=True)]))

    # ---- batches

    def order(self, split: Split, epoch: int, seed: int) -> Tensor:
        taken = Windows(self.blocks, split, self.width, epoch, seed)
        return torch.cat([self._indices(taken, split, window) for window in range(len(taken))])

    def part(self, split: Split, batch_size: int, number: int, *, epoch: int | None = None, seed: int = 0) -> Tensor:
        taken = Windows(self.blocks, split, self.width, epoch, seed)
        start, stop = number * batch_size, min((number + 1) * batch_size, taken.rows)
        around = range(taken.at(start), taken.at(stop - 1) + 1)
        indices = torch.cat([self._indices(taken, split, window) for window in around])
        return indices[start - int(taken.ends[around[0]]) :][: stop - start]

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        epoch: int | None = None,
        seed: int = 0,
        start: int = 0,
        shard: Shard = WHOLE,
    ) -> Iterator[Batch]:
        size = integer("batch_size", batch_size)
        at_least(1, batch_size=size)
        at_least(0, start=integer("start", start))
        taken = Windows(self.blocks, split, self.width, epoch, seed)
        if start > (count := math.ceil(taken.rows / size)):
            raise InputError(f"start={start} is past the end of an epoch of {count} batches")
        if (kept := self._kept(split, epoch)) is not None:
            places = from_start(torch.arange(taken.rows).split(size), start)
            return (tuple(x.index_select(0, shard.of(each)) for x in kept) for each in places)
        self._check_files()
        found = self._batches(taken, split, size, start * size, epoch, seed)
        return found if shard == WHOLE else (_sharded(batch, shard) for batch in found)

    def chunks(self) -> Iterator[tuple[Tensor, Batch]]:
        """All rows in one pass, block by block; of those that were checked before, the first block."""
        blocks = range(1 if self.checked else len(self.blocks))
        with contextlib.closing(ahead(self._read, blocks, self.workers)) as read:
            for block, rows in zip(blocks, read, strict=True):
                yield torch.arange(*self.blocks.of(block)), self._bits(rows, block, "test")

    def _batches(
        self, taken: Windows, split: Split, size: int, row: int, epoch: int | None, seed: int
    ) -> Iterator[Batch]:
        first = taken.at(row)
        draws = None if epoch is None else (seed, epoch)
        room = self._empty(taken.most)
        read = partial(self._window, taken, split, size, row, draws, room)
        with contextlib.closing(ahead(read, range(first, len(taken)))) as ready:
            yield from joined(_each(ready), size)

    def _window(
        self, taken: Windows, split: Split, size: int, row: int, draws: tuple[int, int] | None, room: Batch, window: int
    ) -> deque[Batch]:
        """The pieces of batches that are in a window, from a row of the epoch on, where a batch begins.

        Args:
            room: where the rows are laid down as they are read, which each window writes over.
        """
        begin, end = int(taken.ends[window]), int(taken.ends[window + 1])
        pieces = taken.pieces(window, size)
        while begin < row:
            begin += len(pieces.pop(0))
        found, begin = tuple(x[: end - int(taken.ends[window])] for x in room), 0
        blocks = taken.blocks[window].tolist()
        read = map(self._read, blocks) if self.workers == 1 else ahead(self._read, blocks, self.workers)
        for block, rows in zip(blocks, read, strict=True):
            places = self.blocks.places(block, split)
            for into, x in zip(found, self._bits(rows, block, split, draws), strict=True):
                torch.index_select(x, 0, places, out=into[begin : begin + len(places)])
            begin += len(places)
        return deque(tuple(x.index_select(0, piece) for x in found) for piece in pieces)

    def _indices(self, taken: Windows, split: Split, window: int) -> Tensor:
        """The rows of a window in their order, as indices of their split."""
        ends = self.blocks.ends[split]
        rows = torch.cat([torch.arange(int(ends[b]), int(ends[b + 1])) for b in taken.blocks[window].tolist()])
        return rows[taken.order(window)]

    def _kept(self, split: Split, epoch: int | None) -> Batch | None:
        """The validation rows in their order, if they are few enough to be kept: each evaluation asks for them."""
        if split != "valid" or epoch is not None or self.lengths["valid"] * self.width > HELD:
            return None
        if self.valid is None:
            taken = Windows(self.blocks, "valid", self.width, None, 0)
            parts = list(self._batches(taken, "valid", CHUNK, 0, None, 0))
            self.valid = tuple(torch.cat(each) for each in zip(*parts, strict=True))
        return self.valid

    # ---- blocks

    def _read(self, block: int) -> Batch:
        return tuple(each.read(*self.blocks.of(block)) for each in self.sources)

    def _held(self, block: int) -> Batch:
        """A block, of which the last is held: who asks for rows one after another asks for it again."""
        held = self.held
        if held is None or held[0] != block:
            self.held = held = block, self._read(block)
        return held[1]

    def _bits(self, rows: Batch, block: int, split: Split, draws: tuple[int, int] | None = None) -> Batch:
        """The rows of a block with the first field as 0 and 1, where that is asked for.

        Args:
            draws: seed and epoch, by which training rows are drawn under `epoch`.
        """
        x, *others = rows
        if self.binarize == "threshold":
            return (binarized(x, "threshold"), *others)
        if self.binarize == "epoch" and split == "train":
            return rows if draws is None else (draw(x, generator("epoch", *draws, block)), *others)
        return rows if self.binarize == "none" else (draw(x, generator("once", block)), *others)

    def _by_block(self, split: Split, indices: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each block that holds some of the rows: which of them they are, and their places in the block."""
        of = self.blocks.of_split(split, indices)
        for block in of.unique().tolist():
            at = (of == block).nonzero().flatten()
            yield block, at, self.blocks.places(block, split)[indices[at] - int(self.blocks.ends[split][block])]

    def _empty(self, count: int) -> Batch:
        if count * self.width > HELD:
            size = count * sum(math.prod(each.shape) * each.dtype.itemsize for each in self.sources)
            what = f"{count} rows of {self.name} together take"
            memory.check_memory(2 * size, what, "ask for fewer, such as by --rows")
        return tuple(torch.empty(count, *each.shape, dtype=each.dtype) for each in self.sources)

    def _check_files(self) -> None:
        """
        Raises:
            InputError: a file is not what it was when it was opened.
        """
        for before, now in zip(self.files, files_of(self.sources), strict=True):
            if before != now:
                raise InputError(f"{now[0]} was changed since it was opened: data must stay as they are in a fit")


def _each(windows: Iterator[deque[Batch]]) -> Iterator[Batch]:
    """Their pieces, which are let go as they are taken."""
    for pieces in windows:
        while pieces:
            yield pieces.popleft()


def _sharded(batch: Batch, shard: Shard) -> Batch:
    rows = shard.of(torch.arange(len(batch[0])))
    return tuple(x.index_select(0, rows) for x in batch)
