"""`.csv`: a table as text, with or without a line of column names."""

import csv
import io
from typing import IO, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.table import chosen_columns, refuse_twice_named


class Csv:
    """Numbers separated by commas, as a spreadsheet writes them."""

    name = ".csv"

    @staticmethod
    def read(file: IO[bytes], path: str, key: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
        import pandas

        _, headless = top_of(file, path, key)
        file.seek(0)
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            header = None if headless else 0
            frame = pandas.read_csv(text, header=header, low_memory=False, skipinitialspace=True, **_exact())
        return chosen_columns(frame, path, key)


def _exact() -> dict[str, Any]:
    """What pandas is told to read a number to its last bit, which it does by itself from 3.1 on."""
    import pandas

    version = tuple(map(int, pandas.__version__.split(".")[:2]))
    return {"float_precision": "round_trip"} if version < (3, 1) else {}


def top_of(file: IO[bytes], path: str, key: str | None = None) -> tuple[list[str], bool]:
    """The cells of the first line, and whether they are numbers, so that there are no names.

    Raises:
        InputError: the file is empty, or a column that is read has no name or that of another.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        lines = filter(None, csv.reader(text))
        top, second = [cell.strip() for cell in next(lines, [])], next(lines, [])
    finally:
        text.detach()
    if not top:
        raise InputError(f"{path} is empty")
    filled = [cell for cell in top if cell]
    headless = bool(filled) and all(map(_is_number, filled))
    if len(second) > len(top) and not headless:  # pandas would take the first column for row labels
        more = f"row 0 has {len(second)} cells, but there are {len(top)} column names"
        raise InputError(f"{path}: {more}: give each column a name")
    if not headless and "" in top and key is None:
        which = f"column {top.index('')} has no name (row numbers written by pandas?)"
        raise InputError(f"{path}: {which}: choose columns, {path}:{','.join(filled) or 'a,b'}")
    if not headless:
        refuse_twice_named([cell for cell in filled if key is None or cell in key.split(",")], path)
    return top, headless


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
