"""The rows of blocks: read, made 0 and 1, and found by their places."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ppl_vae.core import memory
from ppl_vae.data.binarize import binarized, draw
from ppl_vae.data.protocol import Batch, Split
from ppl_vae.data.randomness import generator
from ppl_vae.data.streams.blocks import HELD, Blocks
from ppl_vae.data.streams.field import Field

Draws = tuple[int, int] | None
"""Seed and epoch, by which training rows are drawn under `binarize="epoch"`; without them they are as they are."""


@dataclass(eq=False)
class BlockRows:
    """The rows of some fields.

    Args:
        name: what messages call them.
    """

    name: str
    fields: Sequence[Field]
    blocks: Blocks
    binarize: str
    held: tuple[int, Batch] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.width = sum(math.prod(each.shape) for each in self.fields)
        self.workers = max(each.store.workers for each in self.fields)

    def read(self, block: int) -> Batch:
        """All rows of a block, before they are bits."""
        return tuple(each.read(*self.blocks.of(block)) for each in self.fields)

    def bits(self, rows: Batch, block: int, split: Split, draws: Draws = None) -> Batch:
        """The rows of a block with the first field as 0 and 1, where that is asked for."""
        x, *others = rows
        if self.binarize == "threshold":
            return (binarized(x, "threshold"), *others)
        if self.binarize == "epoch" and split == "train":
            return rows if draws is None else (draw(x, generator("epoch", *draws, block)), *others)
        return rows if self.binarize == "none" else (draw(x, generator("once", block)), *others)

    def empty(self, count: int) -> Batch:
        """Room for so many rows. Raises `InputError` where there is no memory for them."""
        if count * self.width > HELD:
            size = count * sum(math.prod(each.shape) * each.dtype.itemsize for each in self.fields)
            what = f"{count} rows of {self.name} together take"
            memory.check_memory(2 * size, what, "ask for fewer, such as by --rows")
        with torch.inference_mode(False):  # since another thread may fill it
            return tuple(torch.empty(count, *each.shape, dtype=each.dtype, device="cpu") for each in self.fields)

    def of_split(self, split: Split, indices: Tensor) -> Batch:
        """The rows at `indices` of a split, `(n,)`."""
        return self._taken(len(indices), split, self._by_block(split, indices))

    def of_numbers(self, numbers: Tensor) -> Batch:
        """The rows that stand at these places of the files, `(n,)`, whatever split they are in."""
        of = self.blocks.of_numbers(numbers)
        each = ((block, (of == block).nonzero().flatten()) for block in of.unique().tolist())
        found = ((block, at, numbers[at] - int(self.blocks.edges[block])) for block, at in each)
        return self._taken(len(numbers), "test", found)

    def numbers(self, split: Split, indices: Tensor) -> Tensor:
        """Where the rows at `indices` of a split stand in the files, `(n,)`."""
        found = torch.empty(len(indices), dtype=torch.int64)
        for block, at, places in self._by_block(split, indices):
            found[at] = int(self.blocks.edges[block]) + places
        return found

    def _taken(self, count: int, split: Split, by_block: Iterator[tuple[int, Tensor, Tensor]]) -> Batch:
        found = self.empty(count)
        for block, at, places in by_block:
            for into, x in zip(found, self.bits(self._held(block), block, split), strict=True):
                into[at] = x.index_select(0, places)
        return found

    def _by_block(self, split: Split, indices: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each block that holds some of the rows: which of them they are, and their places in the block."""
        of = self.blocks.of_split(split, indices)
        for block in of.unique().tolist():
            at = (of == block).nonzero().flatten()
            yield block, at, self.blocks.places(block, split)[indices[at] - int(self.blocks.ends[split][block])]

    def _held(self, block: int) -> Batch:
        """A block, of which the last is held: who asks for rows one after another asks for it again."""
        held = self.held
        if held is None or held[0] != block:
            self.held = held = block, self.read(block)
        return held[1]
