"""What each column of a table is taken for, and why. Whoever knows better says so in `columns.toml`.

The rules, of which the first that fits counts, over the cells that are not missing:

- no cell, or one value: *constant*, left out;
- a pandas categorical: ordinal if it is ordered, else categorical, with its categories;
- two values: binary;
- dates, as ISO 8601 or as day, month and year: real, as days since 1970-01-01;
- texts: categorical; each another one: *identifier*, left out; more than `MANY` of them, or than half of the
  cells: *unclear*;
- whole numbers that count the rows, 1, 2, 3, … or 0, 1, 2, …: *identifier*, left out;
- at most `FEW` whole numbers, each of them twice or more on average: ordinal if there is no gap, else categorical;
- whole numbers from 0 on that spread as counts do, with a variance of at least their mean: count;
- numbers above 0 with a skewness above 1, whose logarithm is less skewed: positive;
- other numbers: real.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.columns.cells import ISO, MISSING, Plain, as_days, as_number, as_text, as_truth, is_code, plain
from ppl_vae.data.columns.schema import Column, LeftOut, Schema, twice_named

if TYPE_CHECKING:
    import pandas

FEW = 10
"""Whole numbers up to so many are levels."""
MANY = 100
"""More texts than so many are no levels that could be learned."""
SKEWED = 1.0
DATES = (ISO, "%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d %B %Y")


def detect(frame: "pandas.DataFrame", where: str) -> Schema:
    """The schema of a table by the rules above.

    Args:
        where: what an error calls the table.

    Raises:
        InputError: no rows, two columns of one name, or no column that is left.
    """
    names = [str(name) for name in frame.columns]
    twice_named(names, where)
    if not len(frame):
        raise InputError(f"{where} has no rows")
    found = [column_of(frame.iloc[:, i].rename(name)) for i, name in enumerate(names)]
    try:
        return Schema(
            tuple(each for each in found if isinstance(each, Column)),
            tuple(each for each in found if isinstance(each, LeftOut)),
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def column_of(cells: "pandas.Series") -> Column | LeftOut:
    """What one column is taken for."""
    name = str(cells.name)
    categories = getattr(cells.dtype, "categories", None)
    there = [x for x in map(plain, cells.tolist()) if x is not None and not (isinstance(x, str) and x in MISSING)]
    values = set(map(_distinct, there))
    if len(values) < 2:
        shown = f"each cell holds {as_text(there[0])}" if there else "each cell is missing"
        return LeftOut(name, "constant", shown)
    if categories is not None and len(categories) >= 2:
        return _of_categories(name, [plain(each) for each in categories], bool(cells.dtype.ordered))
    for rule in (_of_dates, _of_truths, _of_numbers):
        if found := rule(name, there):
            return found
    return _of_texts(name, there)


def _of_categories(name: str, categories: Sequence[Plain], ordered: bool) -> Column:
    holds, labels = held(categories)
    kind = "ordinal" if ordered else "binary" if len(labels) == 2 else "categorical"
    return Column(name, kind, holds, tuple(labels), why=f"an {'ordered' * ordered or 'unordered'} pandas categorical")


def _of_truths(name: str, there: Sequence[Plain]) -> Column | None:
    if any(as_truth(cell) is None for cell in there):
        return None
    return Column(name, "binary", "boolean", (False, True), why="true and false")


def _of_dates(name: str, there: Sequence[Plain]) -> Column | LeftOut | None:
    texts = [cell for cell in there if isinstance(cell, str)]
    if not texts and not all(hasattr(cell, "year") for cell in there):
        return None
    forms = [form for form in DATES if as_days(there[0], form) is not None]
    fitting = [form for form in forms if all(as_days(cell, form) is not None for cell in there)]
    if not fitting:
        return None
    first = fitting[0] if texts else ISO
    days = [as_days(cell, first) for cell in there]
    if texts and any([as_days(cell, form) for cell in there] != days for form in fitting[1:]):
        why = f'{texts[0]} may be {" or ".join(fitting)}: say which in columns.toml, by dates = "{fitting[0]}"'
        return LeftOut(name, "unclear", why)
    whole = all(day == round(day) for day in days if day is not None)
    why = "dates, kept as a number: the days since 1970-01-01"
    return Column(name, "real", "date" if whole else "time", dates=first, why=why)


def _of_numbers(name: str, there: Sequence[Plain]) -> Column | LeftOut | None:
    numbers = [None if is_code(cell) else as_number(cell) for cell in there]
    odd = [cell for cell, number in zip(there, numbers, strict=True) if number is None]
    x = np.array([number for number in numbers if number is not None])
    if odd:
        if len(odd) < len(x) and len(np.unique(x)) > FEW:
            what = f"{len(x)} cells hold numbers and {len(odd)} do not, such as {as_text(odd[0])!r}"
            return LeftOut(name, "unclear", f"{what}: put them right, or add them to missing in columns.toml")
        return None
    levels, sizes = np.unique(x, return_counts=True)
    whole = bool((x == x.round()).all())
    holds = "integer" if whole else "number"
    labels = tuple(int(level) if whole else float(level) for level in levels)
    if len(levels) == 2:
        return Column(name, "binary", holds, labels, why="two values")
    if not whole:
        return _of_reals(name, x, "number", "")
    low, high = int(levels[0]), int(levels[-1])
    if len(levels) == len(x) and low in (0, 1) and (np.diff(x) == 1).all():
        return LeftOut(name, "identifier", f"it counts the rows from {low} to {high}")
    if len(levels) <= FEW and sizes.mean() >= 2:
        if high - low + 1 == len(levels):
            return Column(name, "ordinal", holds, labels, why=f"{len(levels)} whole numbers without a gap")
        return Column(name, "categorical", holds, labels, why=f"{len(levels)} whole numbers with gaps between them")
    if low < 0:
        return _of_reals(name, x, holds, "whole, with numbers below 0; ")
    if x.var() < x.mean():
        return _of_reals(name, x, holds, "whole, but with less spread than counts have (variance below the mean); ")
    return Column(name, "count", holds, why=f"whole numbers from 0 on, {len(levels)} different ones")


def _of_reals(name: str, x: np.ndarray, holds: str, begin: str) -> Column:
    if x.min() > 0:
        plainly, logged = _skewness(x), _skewness(np.log(x))
        if plainly > SKEWED and abs(logged) < plainly:
            why = f"{begin}all above 0 and skewed (skewness {plainly:z.1f}; {logged:z.1f} of the logarithm)"
            return Column(name, "positive", holds, why=why)
    return Column(name, "real", holds, why=f"{begin}{len(np.unique(x))} different numbers")


def _of_texts(name: str, there: Sequence[Plain]) -> Column | LeftOut:
    texts = sorted(set(map(as_text, there)))
    rows, levels = len(there), len(texts)
    if levels == 2:
        return Column(name, "binary", "text", tuple(texts), why="two texts")
    if levels == rows and rows > FEW:
        return LeftOut(name, "identifier", "each row has another text")
    if levels > MANY or (rows > FEW and levels > rows / 2):
        what = f"{levels} different texts in {rows} rows are too many"
        return LeftOut(name, "unclear", f"{what}: drop it, group them, or take it as categorical in columns.toml")
    return Column(name, "categorical", "text", tuple(texts), why=f"{levels} different texts")


def held(labels: Sequence[Plain]) -> tuple[str, list[Any]]:
    """What labels hold, by their types, and themselves as such."""
    kinds: list[tuple[str, Callable[[Plain], Any]]] = [("boolean", as_truth), ("integer", _as_integer)]
    for holds, read in kinds:
        found = [read(label) if not isinstance(label, str) else None for label in labels]
        if all(each is not None for each in found):
            return holds, found
    numbers = [as_number(label) if not isinstance(label, str) else None for label in labels]
    return ("number", numbers) if all(x is not None for x in numbers) else ("text", [as_text(x) for x in labels])


def labels_of(cells: Sequence[Plain], texts: bool = False) -> tuple[str, list[Any]]:
    """What cells hold, also where it is spelled as text, and their different values in order.

    Args:
        texts: take them for texts in any case.
    """
    truths = [as_truth(cell) for cell in cells]
    numbers = [None if is_code(cell) else as_number(cell) for cell in cells]
    if not texts and None not in truths:
        return "boolean", sorted(set(truths))
    if not texts and None not in numbers:
        whole = all(x is not None and x.is_integer() for x in numbers)
        return "integer" if whole else "number", sorted({int(x) if whole else x for x in numbers if x is not None})
    return "text", sorted(set(map(as_text, cells)))


def _as_integer(cell: Plain) -> int | None:
    number = as_number(cell)
    return int(number) if number is not None and number.is_integer() and not isinstance(cell, bool) else None


def _distinct(cell: Plain) -> Any:
    """By what two cells are the same: 1 and 1.0 and '1' are."""
    number = None if isinstance(cell, bool) or is_code(cell) else as_number(cell)
    return cell if number is None else number


def _skewness(x: np.ndarray) -> float:
    """The third standardized moment, `(N,)` to a number."""
    u = (x - x.mean()) / x.std()
    return float((u**3).mean())
