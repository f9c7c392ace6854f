"""Columns of a table as numbers: what every reader of tables shares."""

import reprlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppl_vae.core.errors import InputError


def chosen_columns(frame: Any, path: str, key: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """The columns of a pandas frame that `key` lists, or all, as `(rows, columns)`, and their names.

    Raises:
        InputError: no such column, no rows, or a column that is not numeric.
    """
    frame.columns = [str(name) for name in frame.columns]
    chosen = list(frame.columns) if key is None else key.split(",")
    unknown = [name for name in chosen if name not in frame.columns]
    if unknown or not chosen:
        what = f"no column {unknown[0]!r}" if unknown else "no columns"
        raise InputError(f"{path} has {what}; its columns are {listing(list(frame.columns))}")
    if not len(frame):
        raise InputError(f"{path} has no rows")
    columns = [_column(name, column, path) for name, column in frame[chosen].items()]
    return np.stack(columns, axis=1), tuple(chosen)


def _column(name: str, column: Any, path: str) -> np.ndarray:
    import pandas

    missing = column.isna()
    if not pandas.api.types.is_numeric_dtype(column):
        truth = {"True": "1", "False": "0"}
        texts = pandas.to_numeric(column.astype(str).replace(truth), errors="coerce").isna() & ~missing
        row = int((texts if texts.any() else missing).to_numpy().argmax())
        what = f"{path}: column {name!r} is not numeric: row {row} holds {reprlib.repr(column.iloc[row])}"
        raise InputError(
            f"{what}\nMake it numbers, choose other columns, {path}:a,b, or fit without --model: table takes all kinds"
        )
    if missing.any():
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.to_numpy(dtype=getattr(column.dtype, "numpy_dtype", column.dtype))


def refuse_twice_named(names: Sequence[str], where: str) -> None:
    """Raise `InputError` for two columns of one name."""
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise InputError(f"{where} has two columns that are called {twice!r}: give each its own name")


def listing(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
