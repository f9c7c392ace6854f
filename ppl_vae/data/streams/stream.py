"""Data whose rows stay in their files: blocks of them are read ahead of the batches that need them."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError, at_least
from ppl_vae.data.ahead import ahead
from ppl_vae.data.dataset import image_shape
from ppl_vae.data.protocol import ALONE, CHUNK, WHOLE, Batch, Data, Others, Shard, Split, counted
from ppl_vae.data.randomness import integer
from ppl_vae.data.raw import Raw
from ppl_vae.data.streams.blocks import HELD, Blocks
from ppl_vae.data.streams.epoch import Epoch
from ppl_vae.data.streams.field import Field
from ppl_vae.data.streams.reading import Reading
from ppl_vae.data.streams.rows import BlockRows
from ppl_vae.data.streams.scan import Scan, Seen, files_of, scan_of
from ppl_vae.data.streams.stores.csv import Csv
from ppl_vae.data.summary import Extent

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
        others: the processes with which this one shares the reading of all rows, each of them a range of the blocks.
    """

    name: str
    sources: Sequence[Field] = field(repr=False)
    blocks: Blocks = field(repr=False)
    binarize: str
    recorded: Mapping[str, Any] | None = field(default=None, repr=False)
    others: Others = field(default=ALONE, repr=False)
    files: list[list[Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.files = files_of(self.sources)
        self.read = BlockRows(self.name, self.sources, self.blocks, self.binarize)
        self.valid: Batch | None = None
        self.found: Scan | None = None
        self.reading: Reading | None = None
        known = self.recorded or {}
        self.state = hashlib.sha256(json.dumps(self.files).encode()).hexdigest()
        self.checked = known.get("state") == self.state and known.get("blocks") == self.blocks.digest

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"reading": None}  # which is of threads of this process

    def agree(self) -> None:
        """Let all processes look at all rows, or none.

        Raises:
            InputError: they have different files.
        """
        sizes = [[os.path.basename(path), size] for path, size, _ in self.files]
        told = self.others.gathered((self.checked, sizes))
        self.checked = all(checked for checked, _ in told)
        if any(seen != sizes for _, seen in told):
            raise InputError(f"{self.name} is not the same for all processes: its files have other names or sizes")

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

    @property
    def scan(self) -> Scan:
        """What a pass over all rows finds, which this process makes unless there was one."""
        if self.found is None:
            try:
                self._look(ALONE)
            except InputError as error:
                error.common = self.others.shard == WHOLE  # else the others do not know of it
                raise
        assert self.found is not None
        return self.found

    def look(self) -> None:
        """Read all rows, each process its share of the blocks, for `scan`. Raises `InputError`, in all of them."""
        self._look(self.others)

    def _look(self, others: Others) -> None:
        for _ in self._pass(others):
            pass

    @property
    def sha256(self) -> str:  # type: ignore[override]
        return str(self.recorded["sha256"]) if self.checked and self.recorded else self.scan.sha256

    def extent(self, field: int = 0) -> Extent:
        return self.scan.extents[field]

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.scan.moments

    def with_missing(self, count: int) -> list[int]:
        if not self.sources[0].missing:
            return []
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
        return replace(self, binarize="once", others=ALONE) if self.binarize == "epoch" else self

    # ---- rows

    def numbers(self, split: Split, indices: Tensor | None = None) -> Tensor:
        return self.read.numbers(split, torch.arange(self.lengths[split]) if indices is None else indices)

    def rows(self, split: Split, indices: Tensor) -> Batch:
        return self.read.of_split(split, indices)

    def by_number(self, numbers: Tensor) -> Batch:
        """The rows that stand at these places of the files, `(n,)`, whatever split they are in."""
        return self.read.of_numbers(numbers)

    def first(self, count: int, split: Split = "train") -> Batch:
        """Rows from some places that are spread over the whole split: files are often sorted."""
        length = self.lengths[split]
        if count >= length:
            return self.rows(split, torch.arange(length))
        places = min(count, PLACES)
        starts = torch.arange(places) * length // places
        each = [len(part) for part in torch.arange(count).tensor_split(places)]
        return self.rows(split, torch.cat([start + torch.arange(n) for start, n in zip(starts, each, strict=True)]))

    def chunks(self) -> Iterator[tuple[Tensor, Batch]]:
        """All rows in one pass, block by block; of those that were checked before, the first block.

        Of several processes each has a range of the blocks. What is to be known of all rows is known after it.
        """
        read = iter([(0, self.read.read(0))]) if self.checked else self._pass(self.others)
        for block, rows in read:
            yield torch.arange(*self.blocks.of(block)), self.read.bits(rows, block, "test")

    def _pass(self, others: Others) -> Iterator[tuple[int, Batch]]:
        """The rows of each block of this process, of which note is taken; at its end, `scan` is known."""
        rank, size = others.shard
        mine = range(len(self.blocks) * rank // size, len(self.blocks) * (rank + 1) // size)
        seen = Seen(self.sources)
        with contextlib.closing(ahead(self._raws, mine, self.read.workers)) as raws:
            try:
                for block, each in zip(mine, raws, strict=True):
                    rows = seen.add(self.sources, self.blocks, block, each)
                    yield block, rows
            except InputError as error:
                others.gathered(error)
        self.found = scan_of(self.sources, self.blocks, others.gathered(seen))

    def _raws(self, block: int) -> list[Raw]:
        return [each.raw(*self.blocks.of(block)) for each in self.sources]

    # ---- batches

    def order(self, split: Split, epoch: int, seed: int) -> Tensor:
        return Epoch(self.read, split, epoch, seed).indices(0, self.lengths[split])

    def part(self, split: Split, batch_size: int, number: int, *, epoch: int | None = None, seed: int = 0) -> Tensor:
        start = number * batch_size
        return Epoch(self.read, split, epoch, seed).indices(start, min(start + batch_size, self.lengths[split]))

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
        if start > (count := math.ceil(self.lengths[split] / size)):
            raise InputError(f"start={start} is past the end of an epoch of {count} batches")
        self._check_files()
        if (kept := self._kept(split, epoch)) is not None:
            places = torch.arange(self.lengths[split]).split(size)[start:]
            return (tuple(x.index_select(0, shard.of(each)) for x in kept) for each in places)
        reading = Reading(self.read, split, size, seed, shard)
        if epoch is not None:  # it may have begun
            reading = self.reading = self.reading if reading == self.reading else reading
        return self._unchanged(reading.batches(epoch, start), count - start)

    def _unchanged(self, batches: Iterator[Batch], count: int) -> Iterator[Batch]:
        """So many batches, the last of them where the files still are what they were. Raises as `_check_files`."""
        for left, batch in zip(reversed(range(count)), batches, strict=True):
            if not left:
                self._check_files()
            yield batch

    def _kept(self, split: Split, epoch: int | None) -> Batch | None:
        """The validation rows in their order, if they are few enough to be kept: each evaluation asks for them."""
        if split != "valid" or epoch is not None or self.lengths["valid"] * self.read.width > HELD:
            return None
        if self.valid is None:
            parts = list(Reading(self.read, "valid", CHUNK).batches(None))
            self.valid = tuple(torch.cat(each) for each in zip(*parts, strict=True))
        return self.valid

    def _check_files(self) -> None:
        """
        Raises:
            InputError: a file is not what it was when it was opened.
        """
        for before, now in zip(self.files, files_of(self.sources), strict=True):
            if before != now:
                raise InputError(f"{now[0]} was changed since it was opened: data must stay as they are in a fit")
