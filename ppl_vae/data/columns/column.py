"""One column of a table: its kind, its labels, and so how its cells turn into numbers and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.columns.cells import MISSING, as_days, as_number, as_text, as_truth, plain
from ppl_vae.data.table import listing

if TYPE_CHECKING:
    import pandas

Label = bool | int | float | str
KINDS = ("real", "positive", "shaped", "whole", "count", "binary", "categorical", "ordinal")
HOLDS = ("number", "integer", "boolean", "text", "date", "time")
WHOLE = ("whole", "count")
CODED = ("binary", "categorical", "ordinal")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: as in the table.
        kind: `real`, `positive`, `shaped`, `whole`, `count`, `binary`, `categorical` or `ordinal`, as the model
            `table` takes it.
        holds: what its cells are: `number`, `integer`, `boolean`, `text`, `date`, or `time`, a date with
            the time of the day.
        labels: what the codes 0, 1, … of a binary, categorical or ordinal column stand for, in order.
        missing: the spellings of a missing cell, beside an empty one and those of pandas.
        dates: how a date is spelled, `ISO8601` or such as `%d.%m.%Y`. It is kept as a number: days since 1970-01-01.
        spikes: numbers of a `shaped` column that are so often repeated that they have a probability of their own.
        why: one sentence that says why it was taken so.

    Raises:
        InputError: a kind that there is not, or labels that do not fit the kind.
    """

    name: str
    kind: str
    holds: str = "number"
    labels: tuple[Label, ...] = ()
    missing: tuple[str, ...] = MISSING
    dates: str = ""
    spikes: tuple[float, ...] = ()
    why: str = ""

    def __post_init__(self) -> None:
        begin = f"column {self.name!r}"
        if self.kind not in KINDS:
            raise InputError(f"{begin} has the kind {self.kind!r}: there are {', '.join(KINDS)}")
        if self.holds not in HOLDS:
            raise InputError(f"{begin} holds {self.holds!r}: there are {', '.join(HOLDS)}")
        if self.spikes and self.kind != "shaped":
            raise InputError(f"{begin} is {self.kind}, and has spikes: only shaped has them")
        if self.kind not in CODED:
            if self.labels:
                raise InputError(f"{begin} is {self.kind}, and has labels: only {', '.join(CODED)} have them")
            if self.holds in ("text", "boolean"):
                raise InputError(f"{begin} holds {self.holds}, which can't be {self.kind}: take {', '.join(CODED)}")
            if self.is_date and self.kind != "real":
                raise InputError(f"{begin} holds dates, days since 1970-01-01, which are real, not {self.kind}")
            if self.is_date and not self.dates:
                raise InputError(f'{begin} holds dates: say how they are spelled, such as dates = "%d.%m.%Y"')
            return
        if self.is_date:
            raise InputError(f"{begin} holds dates, which are real, not {self.kind}")
        if len(set(self.labels)) < len(self.labels):
            raise InputError(f"{begin} has a label twice")
        if len(self.labels) < 2 or (self.kind == "binary" and len(self.labels) != 2):
            needed = "2 labels" if self.kind == "binary" else "2 labels or more"
            raise InputError(f"{begin} is {self.kind}, which needs {needed}; it has {len(self.labels)}")

    @property
    def is_date(self) -> bool:
        """Is it a date, which is kept as the number of days since 1970-01-01?"""
        return self.holds in ("date", "time")

    @property
    def told(self) -> str:
        """Its kind as `table` takes it, such as `categorical:3`."""
        if self.kind in ("categorical", "ordinal"):
            return f"{self.kind}:{len(self.labels)}"
        return "@".join([self.kind, *map(_plainly, self.spikes)])

    def is_missing(self, cell: Any) -> bool:
        return cell is None or (isinstance(cell, str) and (not cell or cell in self.missing))

    def encode(self, cells: "pandas.Series", where: str) -> np.ndarray:
        """A number for each cell, `(N,)`: a code, days, or itself; NaN where the cell is missing.

        Raises:
            InputError: the first cell that it does not know, with its row.
        """
        known: dict[tuple[type, Any], float] = {}
        codes = {_key(label): float(i) for i, label in enumerate(self.labels)}
        found = np.empty(len(cells))
        for row, given in enumerate(cells.tolist()):
            cell = plain(given)
            key = (type(cell), cell)
            if key not in known:
                value = np.nan if self.is_missing(cell) else self._number(cell, codes)
                if value is None:
                    raise InputError(f"{where}: row {row}, column {self.name!r} holds {_shown(given)}: {self._known}")
                known[key] = value
            found[row] = known[key]
        return found

    def _number(self, cell: Any, codes: Mapping[Any, float]) -> float | None:
        if self.labels:
            return codes.get(self._as_label(cell))
        if self.is_date:
            return as_days(cell, self.dates)
        number = as_number(cell)
        whole = self.kind in WHOLE
        low = {"positive": np.nextafter(0, 1), "count": 0.0}.get(self.kind, -np.inf)
        return None if number is None or number < low or (whole and number != round(number)) else number

    def _as_label(self, cell: Any) -> Any:
        if self.holds == "text":
            return as_text(cell)
        return as_truth(cell) if self.holds == "boolean" else as_number(cell)

    @property
    def _known(self) -> str:
        """What a cell may hold."""
        if self.labels:
            return f"known are {listing([str(label) for label in self.labels])}"
        if self.is_date:
            return f"it takes dates as {'2024-12-31' if self.dates == 'ISO8601' else self.dates}"
        whole = "whole " if self.kind in WHOLE else ""
        least = {"positive": " above 0", "count": " from 0 on"}.get(self.kind, "")
        return f"it takes {whole}numbers{least}"

    def decode(self, values: np.ndarray) -> "pandas.Series":
        """The cells that numbers `(N,)` stand for, a missing one for NaN.

        A number is brought to the nearest code or, where the column holds whole numbers or dates without a time, to the
        nearest whole one.

        Raises:
            InputError: a code that no label has.
        """
        import pandas

        gone = np.isnan(values)
        if self.labels:
            codes = np.where(gone, 0, values).round().astype(int)
            bad = (codes < 0) | (codes >= len(self.labels))
            if bad.any():
                row = int(bad.argmax())
                known = f"its {len(self.labels)} labels have the codes 0 to {len(self.labels) - 1}"
                raise InputError(f"row {row}, column {self.name!r}: no label has the code {values[row]:g}: {known}")
            cells = [None if missing else self.labels[code] for code, missing in zip(codes, gone, strict=True)]
            return pandas.Series(cells, name=self.name, dtype=self._dtype(bool(gone.any())))
        if self.is_date:
            days = values.round() if self.holds == "date" else values
            stamps = pandas.to_datetime(days, unit="D", errors="coerce")
            return pandas.Series(stamps if self.holds == "date" else stamps.round("s"), name=self.name)
        if self.holds == "integer" or self.kind in WHOLE:
            whole = np.where(gone, 0, values).round().clip(1 if self.kind == "positive" else -(2.0**53), 2.0**53)
            cells = pandas.Series(whole.astype(np.int64), name=self.name)
            return cells.astype("Int64").mask(gone) if gone.any() else cells
        return pandas.Series(values.astype(float), name=self.name)

    def _dtype(self, missing: bool) -> str | None:
        held = {"integer": ("int64", "Int64"), "boolean": ("bool", "boolean"), "number": ("float64", "float64")}
        return held[self.holds][missing] if self.holds in held else None

    def asdict(self) -> dict[str, Any]:
        return asdict(self) | {"labels": list(self.labels), "missing": list(self.missing), "spikes": list(self.spikes)}


def _key(label: Label) -> Any:
    """By what a label is found: a number as a float."""
    return float(label) if isinstance(label, int | float) and not isinstance(label, bool) else label


def _plainly(number: float) -> str:
    """With all its digits; a whole number has no point."""
    return str(int(number)) if number.is_integer() else repr(number)


def _shown(cell: Any) -> str:
    text = repr(cell) if isinstance(cell, str) else str(cell)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"
