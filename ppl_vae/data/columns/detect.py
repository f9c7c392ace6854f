"""What each column of a table is taken for, and why. Whoever knows better says so in `columns.toml`.

The rules, of which the first that fits counts, over the cells that are not missing:

- no cell, or one value: *constant*, left out;
- a pandas categorical: ordinal if it is ordered, else categorical, with its categories;
- two values: binary;
- dates, as ISO 8601 or as day, month and year: real, as days since 1970-01-01;
- texts: categorical; each another one: *identifier*, left out; more than `MANY` of them, or than half of the
  cells: *unclear*;
- numbers with a comma that may set off thousands, such as "1,234": *unclear*;
- whole numbers without a gap, each of them once, in any order, such as 1000, 1001, …: *identifier*, left out;
- at most `FEW` whole numbers, each of them twice or more on average: ordinal if there is no gap, else categorical;
- other whole numbers: whole;
- at most `MANY` numbers, each of them `OFTEN` times or more on average: ordinal;
- numbers of which some are repeated in more than `SPIKE` of the cells: shaped, and these are its spikes;
- numbers above 0 with a skewness above 1, whose logarithm is less skewed: positive;
- other numbers: real, and shaped if they are farther from a normal distribution than chance allows (Lilliefors 1967).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.columns.cells import (
    GROUPED,
    ISO,
    MISSING,
    Plain,
    as_days,
    as_number,
    as_text,
    as_truth,
    is_code,
    plain,
)
from ppl_vae.data.columns.column import Column
from ppl_vae.data.columns.schema import LeftOut, Schema
from ppl_vae.data.table import refuse_twice_named

if TYPE_CHECKING:
    import pandas

FEW = 10
"""Whole numbers up to so many are levels."""
MANY = 100
"""More texts than so many are no levels that could be learned."""
OFTEN = 10
"""Numbers that are repeated so often are levels."""
SPIKE = 0.1
SKEWED = 1.0
CHANCE = 1.031
"""Over √N: how far the shares of N normal numbers are from those of a normal of their own mean and spread, in 99 of 100
cases at most."""
DATES = (ISO, "%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d %B %Y")


def detect(frame: "pandas.DataFrame", where: str) -> Schema:
    """The schema of a table by the rules above.

    Args:
        where: what an error calls the table.

    Raises:
        InputError: no rows, two columns of one name, or no column that is left.
    """
    names = [str(name) for name in frame.columns]
    refuse_twice_named(names, where)
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
    if odd and all(isinstance(cell, str) and GROUPED.fullmatch(cell) for cell in odd):
        what = f"the comma of {odd[0]!r} may set off thousands or be a decimal sign"
        return LeftOut(name, "unclear", f"{what}: write numbers with a point, and without such a comma")
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
        return _of_reals(name, x, levels, sizes)
    low, high = int(levels[0]), int(levels[-1])
    gapless = high - low + 1 == len(levels)
    if len(levels) == len(x) and gapless:
        return LeftOut(name, "identifier", f"it counts the rows from {low} to {high}")
    if len(levels) <= FEW and sizes.mean() >= 2:
        if gapless:
            return Column(name, "ordinal", holds, labels, why=f"{len(levels)} whole numbers without a gap")
        return Column(name, "categorical", holds, labels, why=f"{len(levels)} whole numbers with gaps between them")
    return Column(name, "whole", holds, why=f"{len(levels)} different whole numbers")


def _of_reals(name: str, x: np.ndarray, levels: np.ndarray, sizes: np.ndarray) -> Column:
    often = sizes.mean()
    if len(levels) <= MANY and often >= OFTEN:
        why = f"{len(levels)} different numbers, each of them {often:z.0f} times on average"
        return Column(name, "ordinal", labels=tuple(map(float, levels)), why=why)
    spikes = tuple(map(float, levels[(sizes > SPIKE * len(x)) & (sizes >= OFTEN)]))
    if spikes:
        share = sizes.max() / len(x)
        why = f"{levels[sizes.argmax()]:g} stands in {share:.0%} of the cells, among {len(levels)} different numbers"
        return Column(name, "shaped", spikes=spikes, why=why)
    if x.min() > 0:
        plainly, logged = _skewness(x), _skewness(np.log(x))
        if plainly > SKEWED and abs(logged) < plainly:
            why = f"all above 0 and skewed (skewness {plainly:z.1f}; {logged:z.1f} of the logarithm)"
            return Column(name, "positive", why=why)
    if (off := _from_normal(x)) > CHANCE / len(x) ** 0.5:
        why = f"{len(levels)} different numbers, whose shares are up to {off:.0%} off those of a normal distribution"
        return Column(name, "shaped", why=why)
    return Column(name, "real", why=f"{len(levels)} different numbers")


def _from_normal(x: np.ndarray) -> float:
    """The largest distance of the distribution function of x from that of a normal of its mean and spread."""
    from scipy.special import ndtr

    x = np.sort(_scaled(x))
    below = ndtr((x - x.mean()) / x.std(ddof=1))
    rank = np.arange(len(x))
    return float(np.maximum(below - rank / len(x), (rank + 1) / len(x) - below).max())


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
    x = _scaled(x)
    u = (x - x.mean()) / x.std()
    return float((u**3).mean())


def _scaled(x: np.ndarray) -> np.ndarray:
    """Divided by a power of two, which rounds nothing, so that no square is too large."""
    return np.ldexp(x, 1 - np.frexp(np.abs(x).max())[1])
