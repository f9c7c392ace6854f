"""What the columns of a table are, those that the model sees and those that it does not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.core.frames import shortest
from ppl_vae.core.registry import did_you_mean
from ppl_vae.data.columns.column import Column
from ppl_vae.data.table import listing, refuse_twice_named

if TYPE_CHECKING:
    import pandas


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
        refuse_twice_named([*self.names, *(each.name for each in self.left_out)], "the schema")

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
        refuse_twice_named(given, where)
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
        """The table that numbers `(N, D)` stand for, with names and labels as in the source; see `Column.decode`.

        Numbers in single precision get no more digits than tell them: 0.1, not 0.10000000149.
        """
        import pandas

        values = shortest(np.asarray(values))
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
    lists = {name: tuple(told.get(name, ())) for name in ("labels", "missing", "spikes")}
    return Column(**{**told, **lists})
