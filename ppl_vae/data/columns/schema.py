"""What the columns of a table are: their kinds, their labels, and so how cells turn into numbers and back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.core.registry import did_you_mean
from ppl_vae.data.columns.cells import MISSING, as_days, as_number, as_text, as_truth, plain
from ppl_vae.data.table import listing

if TYPE_CHECKING:
    import pandas

Label = bool | int | float | str
KINDS = ("real", "positive", "count", "binary", "categorical", "ordinal")
HOLDS = ("number", "integer", "boolean", "text", "date", "time")
CODED = ("binary", "categorical", "ordinal")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: as in the table.
        kind: `real`, `positive`, `count`, `binary`, `categorical` or `ordinal`, as the model `table` takes it.
        holds: what its cells are: `number`, `integer`, `boolean`, `text`, `date`, or `time`, a date with
            the time of the day.
        labels: what the codes 0, 1, … of a binary, categorical or ordinal column stand for, in order.
        missing: the spellings of a missing cell, beside an empty one and those of pandas.
        dates: how a date is spelled, `ISO8601` or such as `%d.%m.%Y`. It is kept as a number: days since 1970-01-01.
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
    why: str = ""

    def __post_init__(self) -> None:
        begin = f"column {self.name!r}"
        if self.kind not in KINDS:
            raise InputError(f"{begin} has the kind {self.kind!r}: there are {', '.join(KINDS)}")
        if self.holds not in HOLDS:
            raise InputError(f"{begin} holds {self.holds!r}: there are {', '.join(HOLDS)}")
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
        return f"{self.kind}:{len(self.labels)}" if self.kind in ("categorical", "ordinal") else self.kind

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
        whole = self.kind == "count"
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
        whole = "whole " if self.kind == "count" else ""
        least = {"positive": " above 0", "count": " from 0 on"}.get(self.kind, "")
        return f"it takes {whole}numbers{least}"

    def decode(self, values: np.ndarray) -> "pandas.Series":
        """The cells that numbers `(N,)` stand for, a missing one for NaN.

        What the table can't hold is brought to the nearest that it can: a code to a label, and where the column holds
        whole numbers or dates without a time, a number to a whole one.
        """
        import pandas

        gone = np.isnan(values)
        if self.labels:
            codes = np.where(gone, 0, values).round().clip(0, len(self.labels) - 1).astype(int)
            cells = [None if missing else self.labels[code] for code, missing in zip(codes, gone, strict=True)]
            return pandas.Series(cells, name=self.name, dtype=self._dtype(bool(gone.any())))
        if self.is_date:
            days = values.round() if self.holds == "date" else values
            stamps = pandas.to_datetime(days, unit="D", errors="coerce")
            return pandas.Series(stamps if self.holds == "date" else stamps.round("s"), name=self.name)
        if self.holds == "integer" or self.kind == "count":
            whole = np.where(gone, 0, values).round().clip(1 if self.kind == "positive" else -(2.0**53), 2.0**53)
            cells = pandas.Series(whole.astype(np.int64), name=self.name)
            return cells.astype("Int64").mask(gone) if gone.any() else cells
        return pandas.Series(values.astype(float), name=self.name)

    def _dtype(self, missing: bool) -> str | None:
        held = {"integer": ("int64", "Int64"), "boolean": ("bool", "boolean"), "number": ("float64", "float64")}
        return held[self.holds][missing] if self.holds in held else None

    def asdict(self) -> dict[str, Any]:
        return asdict(self) | {"labels": list(self.labels), "missing": list(self.missing)}


@dataclass(frozen=True)
class LeftOut:
    """A column that is no part of x.

    Args:
        reason: `constant`, `identifier`, `dropped`, `label`, which is kept aside, or `unclear`, where somebody has to
            say what it is.
        why: one sentence.
    """

    name: str
    reason: str
    why: str = ""


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in the order in which the model sees them, and those that it does not see.

    Args:
        y: the label, where the model is given it: the second field of the data.

    Raises:
        InputError: no column, or two of one name.
    """

    columns: tuple[Column, ...]
    left_out: tuple[LeftOut, ...] = ()
    y: Column | None = None

    def __post_init__(self) -> None:
        if not self.columns:
            out = ", ".join(f"{each.name} ({each.reason})" for each in self.left_out[:12])
            raise InputError(f"no column is left for the model{f': left out are {out}' if out else ''}")
        twice_named([*self.names, *(each.name for each in self.left_out)], "the schema")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def kinds(self) -> str:
        """As the model `table` takes them: `real,categorical:3`."""
        return ",".join(column.told for column in self.columns)

    @property
    def label(self) -> str | None:
        """The column that is kept aside as a label, if there is one."""
        return next((each.name for each in self.left_out if each.reason == "label"), None)

    @property
    def unclear(self) -> tuple[LeftOut, ...]:
        """The columns of which somebody has to say what they are."""
        return tuple(each for each in self.left_out if each.reason == "unclear")

    def encode(self, frame: "pandas.DataFrame", where: str) -> np.ndarray:
        """The numbers of a table's cells, `(N, D)` float64, NaN where a cell is missing.

        Columns go by their names, in any order. Those that the schema leaves out may be there or not.

        Args:
            where: what an error calls the table.

        Raises:
            InputError: a column that is missing or not known, or a cell that its column does not take.
        """
        if not len(frame):
            raise InputError(f"{where} has no rows")
        given = [str(name) for name in frame.columns]
        twice_named(given, where)
        known = f"the columns are {listing(self.names)}"
        gone = [name for name in self.names if name not in given]
        if gone:
            more = f" (and {len(gone) - 1} more)" if len(gone) > 1 else ""
            raise InputError(f"{where} has no column {gone[0]!r}{more}{did_you_mean(gone[0], given)}: {known}")
        aside = {each.name for each in self.left_out}
        extra = [name for name in given if name not in self.names and name not in aside]
        if extra:
            more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
            raise InputError(f"{where} has a column {extra[0]!r}{more}, which is not known: {known}")
        each = [column.encode(frame.iloc[:, given.index(column.name)], where) for column in self.columns]
        return np.stack(each, axis=1)

    def decode(self, values: np.ndarray, index: Any = None) -> "pandas.DataFrame":
        """The table that numbers `(N, D)` stand for, with names and labels as in the source; see `Column.decode`."""
        import pandas

        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.columns):
            raise InputError(f"values of shape {values.shape} are no rows of {len(self.columns)} columns")
        series = [column.decode(x) for column, x in zip(self.columns, values.T, strict=True)]
        made = pandas.concat(series, axis=1)
        return made if index is None else made.set_axis(index)

    def asdict(self) -> dict[str, Any]:
        """What a JSON file holds; `schema_from` reads it."""
        return {
            "columns": [column.asdict() for column in self.columns],
            "left_out": [asdict(each) for each in self.left_out],
            **({} if self.y is None else {"y": self.y.asdict()}),
        }


def schema_from(told: Mapping[str, Any]) -> Schema:
    """The schema that `Schema.asdict` tells."""
    left_out = tuple(LeftOut(**each) for each in told["left_out"])
    return Schema(tuple(map(_column, told["columns"])), left_out, _column(told["y"]) if "y" in told else None)


def _column(told: Mapping[str, Any]) -> Column:
    return Column(**{**told, "labels": tuple(told["labels"]), "missing": tuple(told["missing"])})


def twice_named(names: Sequence[str], where: str) -> None:
    """Raise `InputError` for two columns of one name."""
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise InputError(f"{where} has two columns that are called {twice!r}: give each its own name")


def _key(label: Label) -> Any:
    """By what a label is found: a number as a float."""
    return float(label) if isinstance(label, int | float) and not isinstance(label, bool) else label


def _shown(cell: Any) -> str:
    text = repr(cell) if isinstance(cell, str) else str(cell)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"
