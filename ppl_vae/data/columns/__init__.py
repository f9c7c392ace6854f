"""Tables as people have them: texts, categories, dates and missing cells, as numbers and back."""

from ppl_vae.data.columns.choice import choose
from ppl_vae.data.columns.column import Column
from ppl_vae.data.columns.described import Described, described, refuse_unclear
from ppl_vae.data.columns.detect import column_of, detect
from ppl_vae.data.columns.encoding import AnySchema, fields_of, label_values
from ppl_vae.data.columns.reading import Table, is_table, read_table
from ppl_vae.data.columns.schema import LeftOut, Schema, schema_from
from ppl_vae.data.columns.toml import read_toml, write_toml

__all__ = [
    "AnySchema",
    "Column",
    "Described",
    "LeftOut",
    "Schema",
    "Table",
    "choose",
    "column_of",
    "described",
    "detect",
    "fields_of",
    "is_table",
    "label_values",
    "read_table",
    "read_toml",
    "refuse_unclear",
    "schema_from",
    "write_toml",
]
