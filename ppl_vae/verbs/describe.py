"""The verb `describe`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from typing_extensions import Doc

from ppl_vae.core.errors import InputError
from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.data.columns import Described


def describe(
    data: Annotated[
        Any,
        Doc("A table: a .csv or .parquet, with columns of it after a colon; from Python also a DataFrame."),
        o.Flag(tyro.conf.Positional[str]),
    ],
    *,
    columns: o.ColumnsFile = None,
    drop: o.Drop = None,
    only: o.Only = None,
    label: o.LabelColumn = None,
    out: Annotated[
        str | Path | None,
        Doc("Write what was found to this file, say columns.toml, to edit it and give it to fit --columns."),
        o.Flag(Path | None),
    ] = None,
    overwrite: Annotated[bool, Doc("Write over a file that is there already.")] = False,
) -> "Described":
    """Tell what each column of a table is taken for and why, as `fit` would take it; nothing is fitted.

    Raises:
        InputError: no table, or a file that is there already.
    """
    from ppl_vae.core.files import check_file
    from ppl_vae.data.columns import choose, described, read_table, write_toml

    path = None if out is None else Path(out).expanduser()
    if path is not None:
        check_file(path)
        if path.suffix != ".toml":
            raise InputError(f"{path}: give a name that ends in .toml")
        if path.exists() and not overwrite:
            raise InputError(f"{path} is there already: choose another --out, or say --overwrite")
    table = read_table(data)
    schema = choose(table, columns, drop, only, label)
    found = described(schema, table.frame, table.where, table.about)
    if path is None:
        return found
    write_toml(schema, path, table.where if table.where != "the DataFrame" else "DATA")
    return replace(found, files=(str(path),))
