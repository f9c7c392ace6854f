"""Fields of data as they are read: a table or cells by what is known of them, and anything else as it is."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.core.results import counted
from ppl_vae.data.cells import CellFields, is_cells
from ppl_vae.data.columns.reading import is_table, read_table
from ppl_vae.data.columns.schema import Column, Schema
from ppl_vae.data.raw import Raw, as_raw
from ppl_vae.data.source import gather

if TYPE_CHECKING:
    import pandas

AnySchema = Schema | CellFields
"""What is known of a table, or of single-cell data."""


def fields_of(source: Any, schema: AnySchema | None) -> tuple[str, tuple[str, ...], list[Raw]]:
    """Name of the set, names of the fields, and the fields, as `gather`; a table or cells by their schema, if given.

    Raises:
        InputError: as `gather`, `Schema.encode` and `CellFields.fields`.
    """
    if isinstance(schema, CellFields) and is_cells(source):
        return schema.fields(source)
    if not isinstance(schema, Schema) or not is_table(source):
        return gather(source)
    table = read_table(source)
    values = schema.encode(table.chosen, table.where)
    name = os.path.basename(table.where)
    x = as_raw(f"field x ({table.where})", values, schema.names)
    if schema.y is None:
        return name, ("x",), [x]
    y = as_raw(f"field y ({table.where})", label_values(schema.y, table.frame, table.where))
    return name, ("x", "y"), [x, y]


def label_values(column: Column, frame: "pandas.DataFrame", where: str) -> np.ndarray:
    """What a model is given as the label of each row, `(N,)`: its code, or a number.

    Raises:
        InputError: a table without the column, a cell that it does not take, or one that is missing.
    """
    if column.name not in frame.columns:
        raise InputError(f"{where} has no column {column.name!r}, the label that the model is given")
    values = column.encode(frame[column.name], where)
    if (gone := np.isnan(values)).any():
        raise InputError(
            f"{where}: {counted(int(gone.sum()), 'row')} of {len(gone)} have no {column.name!r}, the label that the "
            f"model is given; the first is row {int(gone.argmax())}: leave such rows out"
        )
    return values.astype(np.int64) if column.labels else values
