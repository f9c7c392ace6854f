"""Data in memory: one tensor per field and split."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor

from ppl_vae.data import protocol
from ppl_vae.data.binarize import draw, drawn_once
from ppl_vae.data.protocol import CHUNK, SPLITS, WHOLE, Batch, Data, Shard, Split
from ppl_vae.data.randomness import generator
from ppl_vae.data.summary import Extent


@dataclass(frozen=True, eq=False)
class Dataset(Data):
    """Data whose rows are all in memory; see `Data` for what every kind of data has.

    Each split holds one tensor `(rows, *shape)` per field. Under `binarize="epoch"` the first field of `train` keeps
    its grey values in [0, 1], from which the batches of an epoch are drawn. `sha256` is that of the arrays as read
    (shape, dtype, bytes), before scaling, binarization and split.

    Args:
        seed: by which the rows were split.
        places: for each split, where its rows stand in the data as read.
    """

    name: str
    fields: tuple[str, ...]
    train: Batch = field(repr=False)
    valid: Batch = field(repr=False)
    test: Batch = field(repr=False)
    binarize: str
    seed: int
    sha256: str
    places: Mapping[Split, Tensor] = field(repr=False)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    image: tuple[int, ...] | None = None

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:  # type: ignore[override]
        return tuple(tuple(x.shape[1:]) for x in self.train)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:  # type: ignore[override]
        return tuple(x.dtype for x in self.train)

    @property
    def lengths(self) -> dict[Split, int]:  # type: ignore[override]
        return {split: len(self._of(split)[0]) for split in SPLITS}

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of one datum of the first field, e.g. `(784,)`."""
        return self.shapes[0]

    def rows(self, split: Split, indices: Tensor) -> Batch:
        return tuple(x.index_select(0, indices) for x in self._of(split))

    def numbers(self, split: Split, indices: Tensor | None = None) -> Tensor:
        return self.places[split] if indices is None else self.places[split][indices]

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
        parts = protocol.from_start(self.parts(split, batch_size, epoch=epoch, seed=seed), start)
        first, *others = self._of(split)
        if epoch is not None and split == "train" and self.binarize == "epoch":
            first = draw(first, generator("epoch", seed, epoch))
        return (tuple(x.index_select(0, shard.of(indices)) for x in (first, *others)) for indices in parts)

    def fixed(self) -> "Dataset":
        if self.binarize != "epoch":
            return self
        grey, *others = self.train
        drawn = drawn_once(grey, self.numbers("train"), sum(self.lengths.values()))
        return replace(self, train=(drawn, *others), binarize="once")

    def describe(self) -> str:
        """One line: name, rows of each split, shape of each field, range, binarization."""
        shapes = [f"{name} {shape}" for name, shape in zip(self.fields, self.shapes, strict=True)]
        first = [part for split in SPLITS for part in self._of(split)[0].split(CHUNK)]
        low, high = reduce(Extent.with_, map(Extent.of, first)).range
        shapes[0] += f" in [{low:g}, {high:g}]"
        if missing := sum(int(x.isnan().sum()) for x in first):
            shapes[0] += f" with {missing} of {sum(x.numel() for x in first)} cells missing"
        return f"{self.name}: {protocol.counted(self)} rows, {', '.join(shapes)}, binarize {self.binarize}"

    def _of(self, split: Split) -> Batch:
        return {"train": self.train, "valid": self.valid, "test": self.test}[split]
