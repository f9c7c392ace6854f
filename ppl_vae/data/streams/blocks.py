"""Rows in blocks that lie together in their files: where they begin, and which of their rows are in which split."""

import hashlib
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.protocol import SPLITS, Split
from ppl_vae.data.randomness import generator

BLOCK = 2**19
"""Numbers of a block, about: 2 MiB of float32."""
HELD = 2**24
"""Numbers that are held in memory at most of validation rows: 64 MiB of float32."""


def edges_of(rows: int, width: int, parts: np.ndarray | None) -> np.ndarray:
    """Where the blocks begin and end, `(blocks + 1,)`.

    Args:
        width: how many numbers a row has.
        parts: where the parts begin and end that are read whole; small ones make a block together.
    """
    most = max(1, BLOCK // max(1, width))
    if parts is None:
        return np.append(np.arange(0, rows, most), rows)
    edges = [0]
    for end in parts[1:].tolist():
        if end - edges[-1] >= most:
            edges.append(end)
    return np.array(edges if edges[-1] == rows else [*edges, rows])


def most_held_out(width: int) -> int:
    """Rows that are held out at most for validation, and as many for a test: 10,000 to 100,000, the wider the fewer.

    They tell a mean as well as more would, and what is measured of them does not take memory that grows with the data.
    """
    return min(max(HELD // width, 10_000), 100_000)


class Blocks:
    """The blocks of N rows, and the split, at random within each block: it takes memory by the block, not by the row.

    Args:
        edges: where the blocks begin and end.
        width: how many numbers a row has.
        seed: by which the rows are split.
        valid, test: which parts of the rows are held out, of each `most_held_out` at most.
    """

    def __init__(self, edges: np.ndarray, width: int, seed: int, valid: float, test: float) -> None:
        self.edges, self.seed = edges, seed
        self.rows, self.sizes = int(edges[-1]), np.diff(edges)
        if self.rows < 3:
            what = f"{self.rows} row{'s' * (self.rows > 1)} cannot be split into train, validation and test"
            raise InputError(f"{what}: give at least 3")
        most = most_held_out(width)
        tested = min(max(round(self.rows * test), 1), self.rows - 2, most)
        held_out = min(max(round(self.rows * valid), 1), self.rows - 1 - tested, most)
        self.counts = self._counts(held_out, tested)
        self.ends = {split: np.append(0, np.cumsum(self.counts[split])) for split in SPLITS}
        self.lengths: dict[Split, int] = {split: int(self.ends[split][-1]) for split in SPLITS}

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def digest(self) -> str:
        """By which other blocks, and so another split of the same rows, are told."""
        return hashlib.sha256(self.edges.astype("<i8").tobytes()).hexdigest()

    def of(self, block: int) -> tuple[int, int]:
        """Where a block begins and ends in the files."""
        return int(self.edges[block]), int(self.edges[block + 1])

    def places(self, block: int, split: Split) -> Tensor:
        """Which rows of a block are in a split, `(count,)`, from 0 on and in order."""
        order = torch.randperm(int(self.sizes[block]), generator=generator("split", self.seed, block), device="cpu")
        tested, held_out = (int(self.counts[split][block]) for split in ("test", "valid"))
        parts = {
            "test": order[:tested],
            "valid": order[tested : tested + held_out],
            "train": order[tested + held_out :],
        }
        return parts[split].sort().values

    def of_split(self, split: Split, indices: Tensor) -> Tensor:
        """The block of each of the rows at `indices` of a split, `(n,)`."""
        return torch.from_numpy(np.searchsorted(self.ends[split], indices.numpy(), side="right") - 1)

    def of_numbers(self, numbers: Tensor) -> Tensor:
        """The block of each of the rows that stand at these places of the files, `(n,)`."""
        return torch.from_numpy(np.searchsorted(self.edges, numbers.numpy(), side="right") - 1)

    def _counts(self, held_out: int, tested: int) -> dict[Split, np.ndarray]:
        """How many rows of each block are in each split: so many as its share is, and what it has no room for, next."""
        taken = {"test": 0, "valid": 0}
        counts: dict[Split, list[int]] = {split: [] for split in SPLITS}
        for size, end in zip(self.sizes.tolist(), self.edges[1:].tolist(), strict=True):
            left = size
            for split, wanted in (("test", tested), ("valid", held_out)):
                due = (2 * end * wanted + self.rows) // (2 * self.rows) - taken[split]
                count = min(due, left)
                taken[split] += count
                left -= count
                counts[split].append(count)  # type: ignore[index]
            counts["train"].append(left)
        return {split: np.array(counts[split]) for split in SPLITS}
