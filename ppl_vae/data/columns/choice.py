"""The schema that a user asks for: that of a file, or what is found, without the columns to leave out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppl_vae.core.errors import InputError
from ppl_vae.data.columns.detect import detect
from ppl_vae.data.columns.reading import Table
from ppl_vae.data.columns.schema import LeftOut, Schema
from ppl_vae.data.columns.toml import read_toml
from ppl_vae.data.table import listing

ASKED = "it was asked to leave it out"
ASIDE = "kept aside as a label"


def choose(
    table: Table,
    columns: Any = None,
    drop: Sequence[str] | str | None = None,
    only: Sequence[str] | str | None = None,
    label: str | None = None,
) -> Schema:
    """The schema of a table.

    Args:
        columns: a `columns.toml`, or a `Schema`; by default columns are taken for what is found in the table.
        drop: columns to leave out, as a list or as `a,b`.
        only: the columns not to leave out; by default those that were chosen by `FILE:a,b`, or all.
        label: a column to keep aside.

    Raises:
        InputError: the file is no schema, a column that there is not, or none that is left.
    """
    dropped, kept = _names(drop), _names(only) or table.only
    names = [str(name) for name in table.frame.columns]
    for asked in (*dropped, *kept, *([label] if label is not None else [])):
        if asked not in names:
            raise InputError(f"{table.where} has no column {asked!r}: the columns are {listing(names)}")
    out = [name for name in names if name in dropped or (kept and name not in kept)]
    frame = table.frame.loc[:, [name not in out and name != label for name in names]]
    if columns is None:
        found = detect(frame, table.where)
    else:
        found = columns if isinstance(columns, Schema) else read_toml(Path(columns).expanduser(), table.frame)
    aside = [LeftOut(name, "dropped", ASKED) for name in out if name != label]
    if label is not None:
        aside.append(LeftOut(label, "label", ASIDE))
    gone = {each.name for each in aside}
    return Schema(
        tuple(column for column in found.columns if column.name not in gone),
        (*(each for each in found.left_out if each.name not in gone), *aside),
    )


def _names(asked: Sequence[str] | str | None) -> tuple[str, ...]:
    """`a,b` as a list of names."""
    return tuple(asked.split(",")) if isinstance(asked, str) and asked else tuple(asked or ())
