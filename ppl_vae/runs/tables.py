"""Whether data are a table that is fitted by a schema, and by which one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ppl_vae.core.errors import InputError
from ppl_vae.data.columns import (
    Column,
    Described,
    LeftOut,
    Schema,
    Table,
    choose,
    column_of,
    described,
    is_table,
    read_table,
    refuse_unclear,
)
from ppl_vae.runs.run import Run
from ppl_vae.training import settings

if TYPE_CHECKING:
    import pandas


CONDITIONAL = "conditional"


class Asked(NamedTuple):
    """A table that is fitted by a schema, by which programs, and the settings that the schema says."""

    table: Described
    model: Any
    guide: Any
    settings: dict[str, Any]


def table_asked(
    model: Any,
    guide: Any,
    data: Any,
    set: Any,
    columns: Any,
    drop: Sequence[str] | str | None,
    only: Sequence[str] | str | None,
    label: str | None,
) -> Asked | None:
    """The table that is fitted by a schema: one csv, parquet file or DataFrame, where no other model than `table` is
    named, and no kinds are told. None where the data are anything else, or numbers for another model.

    With a label any other model is given it as y, the second field of the data; `table` is not, and it is kept aside.

    Raises:
        InputError: columns are asked for that are not those of such a table; a column of which nobody says what it is.
    """
    said = {"--columns": columns is not None, "--drop": drop, "--only": only, "--label": label is not None}
    option = next((name for name, given in said.items() if given), None)
    told = any(name.rpartition(".")[2] == "kinds" for name in settings.values(set))
    given = model not in (None, "table") and label is not None
    why = None
    if not is_table(data):
        why = "is for one csv, parquet file or DataFrame as data"
    elif model not in (None, "table") and not given:
        why = f"is for the model table, which takes columns of all kinds: leave out --model {_text(model)}"
        why += ", or say by --label which column it is given" if model == CONDITIONAL else ""
    elif told:
        why = "and the kinds of --set do not go together: leave out one of them"
    if why is not None:
        if option is not None:
            raise InputError(f"{option} {why}")
        return None
    table = read_table(data)
    schema = choose(table, columns, drop, only, label)
    refuse_unclear(schema, table.where)
    if given:
        schema = with_label(schema, table, str(label))
    about = table.about if model is not None else f"{table.about}; fitted by the model table, as none is named"
    found = described(schema, table.frame, table.where, about)
    model = model or "table"
    if guide is None and model in ("table", CONDITIONAL):
        guide = model
    return Asked(found, model, guide, {"kinds": schema.kinds} | _about_label(schema.y))


def with_label(schema: Schema, table: Table, label: str) -> Schema:
    """The schema whose label the model is given.

    Raises:
        InputError: a column that has no levels and no numbers.
    """
    found = column_of(table.frame[label].rename(label))
    if isinstance(found, LeftOut):
        raise InputError(f"{table.where}: column {label!r} can't be the label that a model is given: {found.why}")
    told = LeftOut(label, "label", f"the model is given it as y, {found.told}")
    aside = tuple(told if each.name == label else each for each in schema.left_out)
    return replace(schema, left_out=aside, y=found)


def _about_label(y: Column | None) -> dict[str, Any]:
    if y is None:
        return {}
    told = {"y_dim": len(y.labels)} if y.labels else {"y_dim": 1, "y_standardized": True}
    return {"likelihood": "table", **told}


def label_of(run: Run, data: Any) -> "pandas.Series | None":
    """The label of each row as it stands in `data`, or in the run's own table; None where they have no such column."""
    name = None if run.schema is None else run.schema.label
    source = list(run.config.data) if data is None else data
    if name is None or not is_table(source):
        return None
    frame = read_table(source).frame
    return frame[name] if name in frame.columns else None


def _text(spec: Any) -> str:
    return spec if isinstance(spec, str) else getattr(spec, "__name__", type(spec).__name__)
