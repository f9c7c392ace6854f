"""Fields of data as they are read: a table or cells by what is known of them, and anything else as it is."""

import os
from typing import Any

from ppl_vae.data.cells import CellFields, is_cells
from ppl_vae.data.columns.reading import is_table, read_table
from ppl_vae.data.columns.schema import Schema
from ppl_vae.data.raw import Raw, as_raw
from ppl_vae.data.source import gather

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
    return name, ("x",), [as_raw(f"field x ({table.where})", values, schema.names)]
