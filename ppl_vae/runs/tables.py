"""Whether data are a table that is fitted by a schema, and by which one."""

from collections.abc import Sequence
from typing import Any

from ppl_vae.core.errors import InputError
from ppl_vae.data.columns import Described, choose, described, is_table, read_table, refuse_unclear
from ppl_vae.training import settings


def table_asked(
    model: Any,
    guide: Any,
    data: Any,
    set: Any,
    columns: Any,
    drop: Sequence[str] | str | None,
    only: Sequence[str] | str | None,
    label: str | None,
) -> Described | None:
    """The table that is fitted by a schema: one csv, parquet file or DataFrame, where no other model than `table` is
    named, and no kinds are told. None where the data are anything else, or numbers for another model.

    Raises:
        InputError: columns are asked for that are not those of such a table; a column of which nobody says what it is.
    """
    said = {"--columns": columns is not None, "--drop": drop, "--only": only, "--label": label is not None}
    option = next((name for name, given in said.items() if given), None)
    told = any(name.rpartition(".")[2] == "kinds" for name in settings.values(set))
    why = None
    if not is_table(data):
        why = "is for one csv, parquet file or DataFrame as data"
    elif model not in (None, "table"):
        why = f"is for the model table, which takes columns of all kinds: leave out --model {_text(model)}"
    elif told:
        why = "and the kinds of --set do not go together: leave out one of them"
    if why is not None:
        if option is not None:
            raise InputError(f"{option} {why}")
        return None
    table = read_table(data)
    schema = choose(table, columns, drop, only, label)
    refuse_unclear(schema, table.where)
    about = table.about if model is not None else f"{table.about}; fitted by the model table, as none is named"
    return described(schema, table.frame, table.where, about)


def _text(spec: Any) -> str:
    return spec if isinstance(spec, str) else getattr(spec, "__name__", type(spec).__name__)
