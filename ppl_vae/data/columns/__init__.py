"""Tables as people have them: texts, categories, dates and missing cells, as numbers and back."""

from ppl_vae.data.columns.detect import detect
from ppl_vae.data.columns.schema import Column, LeftOut, Schema, schema_from

__all__ = ["Column", "LeftOut", "Schema", "detect", "schema_from"]
