"""Small data as streams: files, small blocks and windows, and the same rows in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae.data import Dataset, as_data
from ppl_vae.data.protocol import SPLITS, Batch, Data, Split
from ppl_vae.data.streams import Stream, blocks, windows

ROWS, COLUMNS = 600, 5
NAMES = [f"c{i}" for i in range(COLUMNS)]


def small_blocks(monkeypatch: pytest.MonkeyPatch, rows: int = 20, columns: int = COLUMNS) -> None:
    """Blocks of so many rows, and windows of three of them."""
    monkeypatch.setattr(blocks, "BLOCK", rows * columns)
    monkeypatch.setattr(windows, "WINDOW", 3 * rows * columns)


def table(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Rows with one direction, sorted by it, as files often are."""
    generator = np.random.default_rng(0)
    z = np.sort(generator.normal(size=(rows, 1)), axis=0)
    return (z * np.arange(1, columns + 1) + generator.normal(size=(rows, columns))).astype("float32")


def npy(folder: Path, x: np.ndarray | None = None) -> Path:
    np.save(path := folder / "rows.npy", table() if x is None else x)
    return path


def parquet(folder: Path, x: np.ndarray | None = None, files: int = 4, group: int = 17) -> Path:
    """A folder of Parquet files in small row groups."""
    import pandas

    (path := folder / "rows").mkdir(exist_ok=True)
    for i, part in enumerate(np.array_split(table() if x is None else x, files)):
        pandas.DataFrame(part, columns=NAMES[: part.shape[1]]).to_parquet(
            path / f"part-{i}.parquet", row_group_size=group
        )
    return path


def streamed(source: Any, **options: Any) -> Stream:
    found = as_data(source, stream="on", **options)
    assert isinstance(found, Stream)
    return found


class Held(Dataset):
    """The rows of a stream in memory, which come in its order."""

    stream: Stream

    def order(self, split: Split, epoch: int, seed: int) -> Tensor:
        return self.stream.order(split, epoch, seed)

    def first(self, count: int, split: Split = "train") -> Batch:
        return self.stream.first(count, split)


def held(data: Stream) -> Held:
    """The same rows in the same splits and the same order, in memory."""
    splits = (data.rows(split, torch.arange(data.lengths[split])) for split in SPLITS)
    places = {split: data.numbers(split) for split in SPLITS}
    found = Held(data.name, data.fields, *splits, data.binarize, 0, data.sha256, places, data.columns, data.image)
    object.__setattr__(found, "stream", data)
    return found


def same_rows(data: Stream, other: Data) -> bool:
    """Have both the same rows, at the same places of the data as read?"""
    numbers = torch.cat([other.numbers(split) for split in SPLITS])
    every = [torch.cat(each) for each in zip(*(other.whole(split) for split in SPLITS), strict=True)]
    pairs = zip(data.by_number(numbers), every, strict=True)
    return all(torch.equal(a.nan_to_num(-9.0), b.nan_to_num(-9.0)) and a.dtype == b.dtype for a, b in pairs)
