"""Arrays of a run's model as its data were given: by the names of columns, in their units, with their labels."""

from typing import TYPE_CHECKING

import numpy as np

from ppl_vae.core.frames import Arrays, shortest
from ppl_vae.data.columns import Schema
from ppl_vae.data.columns.cells import ISO
from ppl_vae.runs.run import Run

if TYPE_CHECKING:
    import pandas

LABEL = "y"
"""The field of the label that the model of a table is given."""


def column_names(run: Run, observed: Arrays, end: str = "") -> dict[str, list[str]]:
    """The names of the data's columns with `end` behind them, for each array of a site that observes a named field.

    A site observes the field of its own name, or, as the only one, the first.
    """
    columns = run.rules.columns
    first = columns.get(run.rules.fields[0], ())
    found = {}
    for site, x in observed.items():
        names = columns.get(site, first if len(observed) == 1 else ())
        if x.shape[1:] == (len(names),):
            found[site] = [name + end for name in names]
    return found


def numbered(run: Run, shape: tuple[int, ...], site: str = "x") -> list[str]:
    """A name for each number of a datum of the first field: the column's, or its place, as x_1 or x_1_28."""
    names = run.rules.columns.get(run.rules.fields[0], ())
    if shape == (len(names),):
        return list(names)
    return [f"{site}_{'_'.join(str(i + 1) for i in place)}" for place in np.ndindex(*shape)]


def in_units(run: Run, observed: Arrays, scale: float | None = None) -> Arrays:
    """The same in units of the data, where these were divided by a scale before the programs saw them.

    Args:
        scale: in place of the run's.
    """
    rules = run.rules
    factor = scale or rules.scale
    if factor is None or rules.binarize != "none":
        return observed
    first = rules.fields[0] if rules.fields[0] in observed or len(observed) > 1 else next(iter(observed), "")
    return {site: x * factor if site == first else x for site, x in observed.items()}


def decoded(run: Run, observed: Arrays, end: str = "") -> "dict[str, pandas.DataFrame]":
    """The same with the labels of codes and all else that the data's schema knows, if the run has one."""
    schema = run.schema
    if schema is None:
        return {}
    tables = {site: schema.decode(shortest(x)) for site, x in observed.items() if x.shape[1:] == (len(schema.names),)}
    found = {site: as_written(schema, table).add_suffix(end) for site, table in tables.items()}
    if schema.y is not None and LABEL in observed:
        found[LABEL] = schema.y.decode(shortest(observed[LABEL])).to_frame()
    return found


def as_written(schema: Schema, table: "pandas.DataFrame") -> "pandas.DataFrame":
    """The table with its dates as the texts that the schema takes, where it takes no ISO 8601."""
    texts = {column.name: column.dates for column in schema.columns if column.is_date and column.dates != ISO}
    return table.assign(**{name: table[name].dt.strftime(form) for name, form in texts.items()})
