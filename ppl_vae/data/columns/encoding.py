"""Fields of data as they are read: the table of a schema in numbers, and anything else as it is."""

import os
from typing import Any

from ppl_vae.data.columns.reading import is_table, read_table
from ppl_vae.data.columns.schema import Schema
from ppl_vae.data.raw import Raw, as_raw
from ppl_vae.data.source import gather


def fields_of(source: Any, schema: Schema | None) -> tuple[str, tuple[str, ...], list[Raw]]:
    """Name of the set, names of the fields, and the fields, as `gather`; a table by its schema, if there is one.

    Raises:
        InputError: as `gather` and `Schema.encode`.
    """
    if schema is None or not is_table(source):
        return gather(source)
    table = read_table(source)
    values = schema.encode(table.chosen, table.where)
    name = os.path.basename(table.where)
    return name, ("x",), [as_raw(f"field x ({table.where})", values, schema.names)]
