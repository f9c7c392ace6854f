"""Rows to read, and what `open_data` says of them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.dataset import Dataset, open_data


def grid(rows: int = 20, columns: int = 3) -> np.ndarray:
    """Distinct float32 values, so that a row can be told from every other."""
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)


def grey(rows: int = 400, columns: int = 50) -> np.ndarray:
    return np.random.default_rng(0).random((rows, columns), dtype=np.float32)


def fails(source: Any, *parts: str, **options: Any) -> str:
    """The message of the `InputError`, which must hold every part and be one or two lines."""
    with pytest.raises(InputError) as caught:
        open_data(source, **options)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert message.count("\n") <= 1, message
    return message


def rows_of(data: Dataset, index: int = 0) -> Tensor:
    return torch.cat([data.train[index], data.valid[index], data.test[index]])


def original(data: Dataset) -> np.ndarray:
    """All rows of the first field, sorted by their first column."""
    rows = rows_of(data).numpy()
    return rows[rows[:, 0].argsort()]
