"""The columns of a table, told to a person: kinds, levels, missing cells, ranges, and why."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from ppl_vae.core.errors import InputError
from ppl_vae.core.results import Result
from ppl_vae.data.columns.column import Column
from ppl_vae.data.columns.schema import Schema

SHOWN = 4
"""Labels that are shown."""


@dataclass(frozen=True, repr=False)
class Described(Result):
    """A table and its schema.

    Args:
        about: where the table is and how it was read.
        values: its numbers, `(N, D)`, NaN where a cell is missing.
        files: the `columns.toml` that was written.
    """

    schema: Schema
    about: str = ""
    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)), compare=False)
    files: tuple[str, ...] = ()

    @property
    def missing(self) -> np.ndarray:
        """The share of missing cells of each column, `(D,)`."""
        return np.isnan(self.values).mean(0)

    def fields(self) -> dict[str, Any]:
        columns = [
            column.asdict() | {"missing_share": share, "range": _range(x)}
            for column, share, x in zip(self.schema.columns, self.missing.tolist(), self.values.T, strict=True)
        ]
        told = self.schema.asdict() | {"columns": columns}
        return {"about": self.about, "rows": len(self.values), "kinds": self.schema.kinds} | told | {
            "label": self.schema.label, "files": list(self.files),
        }  # fmt: skip

    def lines(self) -> Iterator[RenderableType]:
        yield self.about
        grid = Grid(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for header in ("column", "kind", "missing", "range or labels", "why"):
            grid.add_column(
                header,
                justify="right" if header == "missing" else "left",
                overflow="fold",
                no_wrap=header in ("kind", "missing"),
            )
        for column, share, x in zip(self.schema.columns, self.missing, self.values.T, strict=True):
            percent = "–" if share == 0 else f"{share:.1%}"
            grid.add_row(*map(Text, (column.name, column.told, percent, _extent(column, x), column.why)))
        for out in self.schema.left_out:
            grid.add_row(*map(Text, (out.name, "left out", "", out.reason, out.why)))
        yield grid
        yield from (f"written: {file}" for file in self.files)


def described(schema: Schema, frame: Any, where: str, about: str) -> Described:
    """A table by a schema. Raises `InputError` for a cell that the schema does not take."""
    return Described(schema, about, schema.encode(frame, where))


def refuse_unclear(schema: Schema, where: str) -> None:
    """Raise `InputError` for a column of which somebody has to say what it is."""
    for out in schema.unclear[:1]:
        more = f" (and {len(schema.unclear) - 1} more columns)" if len(schema.unclear) > 1 else ""
        raise InputError(
            f"{where}: what is column {out.name!r}{more}? {out.why}\n"
            f"Leave it out by --drop {out.name}, or say it in a file: ppl-vae describe {where} --out columns.toml"
        )


def _range(x: np.ndarray) -> list[float]:
    there = x[~np.isnan(x)]
    return [float(there.min()), float(there.max())] if len(there) else []


def _extent(column: Column, x: np.ndarray) -> str:
    """Labels, or the smallest and the largest value."""
    if column.labels:
        more = f", … ({len(column.labels)})" if len(column.labels) > SHOWN else ""
        return ", ".join(map(str, column.labels[:SHOWN])) + more
    extent = np.array(_range(x))
    if not len(extent):
        return ""
    if column.is_date:
        return " to ".join(str(cell)[: 10 if column.holds == "date" else 16] for cell in column.decode(extent))
    return " to ".join(f"{each:g}" if abs(each) < 1e6 else f"{each:.10g}" for each in extent)
