"""What data are to every room above: rows of several fields in three splits, asked for in batches.

`Dataset` holds all rows in memory, and `streams.Stream` reads them from files as they are needed. Another kind of data
is a class that states the same attributes and has the method `rows`; the others follow from it, and a class may have
faster ones.
"""

import math
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError, Told, at_least
from ppl_vae.data.binarize import binarized
from ppl_vae.data.randomness import generator, integer
from ppl_vae.data.summary import Extent, Running

T = TypeVar("T")
Split: TypeAlias = Literal["train", "valid", "test"]
Batch: TypeAlias = tuple[Tensor, ...]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
CHUNK = 1000
"""Rows at a time, where all of them are looked at."""


class Shard(NamedTuple):
    """The part of each batch that one of several processes takes: every `size`-th row, from number `rank` on."""

    rank: int = 0
    size: int = 1

    def of(self, rows: Tensor) -> Tensor:
        """The rows of a batch, `(n,)`, that this part has. A part without rows gets the first one, to count nothing."""
        return rows[self.rank :: self.size] if self.rank < len(rows) else rows[:1]

    def count(self, rows: int) -> int:
        """How many of the rows of a batch this part has, which may be 0."""
        return len(range(self.rank, rows, self.size))


WHOLE = Shard()


class Others(Protocol):
    """The processes that read the same data at the same time, and how they tell each other what they have found."""

    @property
    def shard(self) -> Shard: ...

    def gathered(self, mine: T | Told) -> list[T]:
        """What each process says, in their order; an error of one of them is raised in all."""
        ...


class Alone:
    """One process, which reads everything."""

    shard = WHOLE

    def gathered(self, mine: T | Told) -> list[T]:
        if isinstance(mine, Told):
            mine.common = True
            raise mine
        return [mine]


ALONE = Alone()


@runtime_checkable
class Data(Protocol):
    """Rows in three splits. A batch is a tuple of tensors `(rows, *shape)`, one per field, in the order of `fields`.

    To write another kind of data, derive a class from this one, set the attributes and write `rows`.
    """

    name: str
    """What messages call it."""
    fields: tuple[str, ...]
    """The names of the fields. The first is what the model observes as `x`."""
    shapes: tuple[tuple[int, ...], ...]
    """The shape of one datum, for each field."""
    dtypes: tuple[torch.dtype, ...]
    """The dtype of each field."""
    lengths: Mapping[Split, int]
    """The number of rows of each split, at least 1."""
    columns: Mapping[str, tuple[str, ...]]
    """The names of the columns, for each field that has names."""
    image: tuple[int, ...] | None
    """The shape of the picture that a datum of the first field is, if it is one."""
    binarize: str
    """How the first field was made 0 and 1: `none`, `threshold`, `once` or `epoch`. Under `epoch` its training rows
    are values in [0, 1] in `rows`, and 0 or 1 in the batches of an epoch, for which `batches` draws them anew."""
    sha256: str
    """Fingerprint of the content: a run refuses data that have another one."""
    checked: bool = False
    """Were these very rows checked with the programs of a run before, so that some of them are enough now?"""

    def rows(self, split: Split, indices: Tensor) -> Batch:
        """The rows at `indices` of a split, `(n,)`, each from 0 to `lengths[split]` − 1, in the order asked for."""
        raise NotImplementedError

    def whole(self, split: Split) -> Batch:
        """All rows of a split as one batch, for what has to see them together."""
        return self.first(self.lengths[split], split)

    def first(self, count: int, split: Split = "train") -> Batch:
        """Rows of a split to look at, `count` or as many as there are: the first, or some that stand for all of it."""
        return self.rows(split, torch.arange(min(count, self.lengths[split])))

    def numbers(self, split: Split, indices: Tensor | None = None) -> Tensor:
        """Where the rows at `indices` of a split, or all of them, stand in the data as read; messages name rows so.

        By default the splits follow each other: train, valid, test.
        """
        before = sum(self.lengths[each] for each in SPLITS[: SPLITS.index(split)])
        return before + (torch.arange(self.lengths[split]) if indices is None else indices)

    def order(self, split: Split, epoch: int, seed: int) -> Tensor:
        """In which order an epoch takes the rows of a split, `(lengths[split],)`; it depends on both numbers only."""
        return torch.randperm(self.lengths[split], generator=generator("order", seed, epoch), device="cpu")

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
        """The rows of a split, `batch_size` at a time, from batch `start` on; the last batch may be shorter.

        Args:
            epoch: shuffle for this epoch, by `seed`; without it the rows come in their own order.
            shard: of each batch, the rows of this part alone; at least one, see `Shard.of`.

        Raises:
            InputError: before the first batch, for a batch size below 1 or a `start` outside the epoch.
        """
        parts = self.parts(split, batch_size, epoch=epoch, seed=seed)
        return (self.rows(split, shard.of(indices)) for indices in from_start(parts, start))

    def parts(self, split: Split, batch_size: int, *, epoch: int | None = None, seed: int = 0) -> tuple[Tensor, ...]:
        """The indices of the rows of each batch; arguments and errors as for `batches`."""
        size = integer("batch_size", batch_size)
        at_least(1, batch_size=size)
        indices = torch.arange(self.lengths[split]) if epoch is None else self.order(split, epoch, seed)
        return indices.split(size)

    def part(self, split: Split, batch_size: int, number: int, *, epoch: int | None = None, seed: int = 0) -> Tensor:
        """The indices of the rows of one batch, that of a number from 0 on."""
        return self.parts(split, batch_size, epoch=epoch, seed=seed)[number]

    def chunks(self) -> Iterator[tuple[Tensor, Batch]]:
        """All rows, some at a time, for who looks at each of them once: their numbers, and the rows.

        Under `binarize="epoch"`, values of 0 and 1 stand for training rows, as in an epoch.
        """
        for split in SPLITS:
            for numbers, rows in zip(self.numbers(split).split(CHUNK), self.batches(split, CHUNK), strict=True):
                grey = self.binarize == "epoch" and split == "train"
                yield numbers, ((binarized(rows[0], "threshold"), *rows[1:]) if grey else rows)

    def with_missing(self, count: int) -> list[int]:
        """The indices of the first training rows that have a missing cell, at most `count`."""
        missing = torch.cat([with_missing(batch) for batch in self.batches("train", CHUNK)])
        return missing.nonzero().flatten()[:count].tolist()

    def extent(self, field: int = 0) -> Extent:
        """The extent of each column of a field over the training rows."""
        return reduce(Extent.with_, (Extent.of(batch[field]) for batch in self.batches("train", CHUNK)))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each column of the first field over the training rows, in float64.

        Missing cells are left out; a constant has spread 1.
        """
        return reduce(Running.with_, (Running.of(batch[0]) for batch in self.batches("train", CHUNK))).moments()

    def steps_per_epoch(self, batch_size: int) -> int:
        """The number of batches in an epoch, a short last one included. Raises `InputError` for a size below 1."""
        at_least(1, batch_size=integer("batch_size", batch_size))
        return math.ceil(self.lengths["train"] / batch_size)

    def fixed(self) -> "Data":
        """The same data with no draw left: under `binarize="epoch"`, training rows as by the one draw of `once`."""
        return self

    def describe(self) -> str:
        """One line: name, rows of each split, shape of each field, binarization."""
        fields = ", ".join(f"{name} {shape}" for name, shape in zip(self.fields, self.shapes, strict=True))
        return f"{self.name}: {counted(self)} rows, {fields}, binarize {self.binarize}"


def with_missing(batch: Batch) -> Tensor:
    """Does a row have a missing cell? `(rows,)`."""
    return torch.stack([x.reshape(len(x), -1).isnan().any(1) for x in batch]).any(0).cpu()


def from_start(parts: tuple[Tensor, ...], start: int) -> tuple[Tensor, ...]:
    """The parts from number `start` on. Raises `InputError` for a start that is not in the epoch."""
    at_least(0, start=integer("start", start))
    if start > len(parts):
        raise InputError(f"start={start} is past the end of an epoch of {len(parts)} batches")
    return parts[start:]


def counted(data: Data) -> str:
    """`4000 train + 500 validation + 500 test`."""
    words = {"train": "train", "valid": "validation", "test": "test"}
    return " + ".join(f"{data.lengths[split]} {words[split]}" for split in SPLITS)
