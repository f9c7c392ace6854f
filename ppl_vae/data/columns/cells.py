"""One cell of a table: which spellings mean that it is missing, and which number stands for what it says."""

import datetime
import math
import re
from typing import Any

import numpy as np

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NaT", "NULL", "null", "None", "?", "-", "--", ".")
"""What is taken for a missing cell, unless it is said otherwise."""
ISO = "ISO8601"
WHOLE = 2.0**53
"""Whole numbers up to here are exact in float64."""
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
"""1,234: a comma that sets off thousands, or a decimal one."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PADDED = re.compile(r"[+-]?0\d+", re.ASCII)
_TRUTH = {"true": True, "false": False}
_EPOCH = datetime.datetime(1970, 1, 1)

Plain = bool | int | float | str | datetime.datetime | None


def plain(cell: Any) -> Plain:
    """A cell as Python's own bool, int, float, str or datetime; None for what pandas takes for missing."""
    if isinstance(cell, str):
        return cell.strip()
    if cell is None or isinstance(cell, bool | int):
        return cell
    if isinstance(cell, np.generic):
        cell = cell.item() if not isinstance(cell, np.datetime64) else cell.astype("datetime64[us]").item()
    if isinstance(cell, float):
        return None if math.isnan(cell) else cell
    if isinstance(cell, datetime.date) and not isinstance(cell, datetime.datetime):
        cell = datetime.datetime(cell.year, cell.month, cell.day)
    if isinstance(cell, datetime.datetime):  # pandas.Timestamp and NaT too
        if cell != cell:
            return None
        cell = datetime.datetime.fromisoformat(cell.isoformat(timespec="microseconds"))
        return cell.astimezone(datetime.UTC).replace(tzinfo=None) if cell.tzinfo else cell
    if type(cell).__name__ == "NAType":
        return None
    if type(cell).__name__ == "Decimal":
        return float(cell)
    return cell if isinstance(cell, bool | int | str) else str(cell)


def as_number(cell: Plain) -> float | None:
    """The number that a cell holds; None for what is no finite number, such as a text or a date."""
    if isinstance(cell, str):
        return float(cell) if _NUMBER.fullmatch(cell) and math.isfinite(float(cell)) else None
    if isinstance(cell, bool | int | float):
        return float(cell) if math.isfinite(cell) else None
    return None


def as_truth(cell: Plain) -> bool | None:
    """True or False, also in other letters; None for anything else."""
    return cell if isinstance(cell, bool) else _TRUTH.get(cell.lower()) if isinstance(cell, str) else None


def as_text(cell: Plain) -> str:
    """A cell as a text: a whole number has no point."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.isoformat(sep=" ") if isinstance(cell, datetime.datetime) else str(cell)


def as_days(cell: Plain, form: str) -> float | None:
    """Days since 1970-01-01 of a date, with a fraction for the time of the day; None for what is no date.

    Args:
        form: how a text spells it: `ISO8601`, or as `datetime.strptime` takes it, such as `%d.%m.%Y`.
    """
    if isinstance(cell, str):
        try:
            found = datetime.datetime.fromisoformat(cell) if form == ISO else datetime.datetime.strptime(cell, form)
        except ValueError:
            return None
        if form == ISO and not re.match(r"\d{4}-\d\d-\d\d", cell):  # 20240131 is a number
            return None
        cell = found.astimezone(datetime.UTC).replace(tzinfo=None) if found.tzinfo else found
    if not isinstance(cell, datetime.datetime):
        return None
    return (cell - _EPOCH) / datetime.timedelta(days=1)


def is_code(cell: Plain) -> bool:
    """Is it a text of digits that would lose something as a number, such as a zip code with a leading 0?"""
    if not isinstance(cell, str):
        return False
    return bool(_PADDED.fullmatch(cell)) or (cell.isdecimal() and float(cell) > WHOLE)
