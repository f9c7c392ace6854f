"""`columns.toml`: a schema as a file that a person reads and edits."""

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import write_bytes
from ppl_vae.data.columns.cells import MISSING, plain
from ppl_vae.data.columns.column import CODED, HOLDS, KINDS, Column
from ppl_vae.data.columns.detect import held, labels_of
from ppl_vae.data.columns.schema import LeftOut, Schema

if TYPE_CHECKING:
    import pandas

OUT = "left out"
KEYS = ("name", "kind", "holds", "labels", "missing", "dates", "spikes", "reason", "why")
HEAD = f"""\
# The columns of {{where}}, in the order in which the model sees them. Edit what is wrong, and give this file to
# ppl-vae fit --data {{where}} --columns {{file}}. The line `why` is for you, and may go.
#
# kind = "real"         any number: a normal distribution, in units of the column's spread
# kind = "positive"     a number above 0: log-normal
# kind = "shaped"       any number, in any shape: normal on a scale that is learned; spikes = [0.0] lists numbers that
#                       are so often repeated that they have a probability of their own
# kind = "whole"        any whole number, in any shape
# kind = "count"        0, 1, 2, ... without an upper bound: negative binomial
# kind = "binary"       one of two labels
# kind = "categorical"  one of several labels
# kind = "ordinal"      one of several labels that have an order: labels are in that order
# kind = "{OUT}"     no part of the model
#
# holds says what the cells are: {", ".join(HOLDS)} (a date with the time of the day). Dates are kept as
# the number of days since 1970-01-01, and dates says how they are spelled: "ISO8601", or such as "%d.%m.%Y".
# Without labels, those of a binary, categorical or ordinal column are taken from the data.
# missing lists what stands in a cell that is missing; a column may have a list of its own.
"""


def write_toml(schema: Schema, path: Path, where: str = "DATA") -> None:
    """Write a schema, with comments that say what may stand there."""
    write_bytes(path, toml_of(schema, where, path.name).encode())


def toml_of(schema: Schema, where: str, file: str = "columns.toml") -> str:
    """The text of the file."""
    lists = [column.missing for column in schema.columns]
    usual = max(lists, key=lists.count)
    blocks = [HEAD.format(where=where, file=file), f"missing = {_value(list(usual))}\n"]
    for column in schema.columns:
        told: dict[str, Any] = {"name": column.name, "kind": column.kind, "holds": column.holds}
        more: dict[str, Any] = {"labels": list(column.labels), "dates": column.dates}
        more |= {"spikes": list(column.spikes), "why": column.why}
        told |= {name: value for name, value in more.items() if value}
        blocks.append(_block(told | ({} if column.missing == usual else {"missing": list(column.missing)})))
    blocks += [_block({"name": out.name, "kind": OUT, "reason": out.reason, "why": out.why}) for out in schema.left_out]
    return "\n".join(blocks)


def read_toml(path: Path, frame: "pandas.DataFrame | None" = None) -> Schema:
    """The schema of a file.

    Args:
        frame: the table, from which labels are taken that the file does not say.

    Raises:
        InputError: no such file, no TOML, or what it says is no schema.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {str(error).splitlines()[0]}") from error
    try:
        return _schema(told, frame)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _schema(told: Mapping[str, Any], frame: "pandas.DataFrame | None") -> Schema:
    blocks = told.get("column", [])
    if unknown := sorted(set(told) - {"missing", "column"}):
        raise InputError(f"{unknown[0]!r} is not known: there are missing and [[column]]")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise InputError("write each column as a block that begins with [[column]]")
    columns, left_out = [], []
    for i, block in enumerate(blocks):
        name = block.get("name")
        if not isinstance(name, str):
            raise InputError(f"block {i} of [[column]] has no name")
        _check(name, block)
        if block.get("kind") == OUT:
            left_out.append(LeftOut(name, block.get("reason", "dropped"), block.get("why", "")))
        else:
            columns.append(_column(block, told.get("missing", list(MISSING)), frame))
    return Schema(tuple(columns), tuple(left_out))


def _check(name: str, block: Mapping[str, Any]) -> None:
    """Raise `InputError` for a key that there is not, or a value of another type than it has."""
    for key, value in block.items():
        if key not in KEYS:
            raise InputError(f"column {name!r}: {key!r} is not known: there are {', '.join(KEYS)}")
        if key in ("labels", "missing"):
            if not isinstance(value, list) or not all(isinstance(x, bool | int | float | str) for x in value):
                raise InputError(f'column {name!r}: {key} is a list, such as ["a", "b"]')
        elif key == "spikes":
            if not isinstance(value, list) or not all(type(x) in (int, float) and math.isfinite(x) for x in value):
                raise InputError(f"column {name!r}: spikes is a list of numbers, such as [0.0]")
        elif not isinstance(value, str):
            raise InputError(f"column {name!r}: {key} is a text in quotes")
    if "kind" not in block:
        raise InputError(f"column {name!r} has no kind: there are {', '.join(KINDS)}, {OUT}")


def _column(block: Mapping[str, Any], missing: list[str], frame: "pandas.DataFrame | None") -> Column:
    name, kind, why = block["name"], block["kind"], block.get("why", "")
    spelled = tuple(map(str, block.get("missing", missing)))
    labels, dates, holds = block.get("labels", []), block.get("dates", ""), block.get("holds")
    if kind in CODED and not labels and frame is not None and name in frame.columns:
        probe = Column(name, "real", missing=spelled)
        cells = [cell for cell in map(plain, frame[name].tolist()) if not probe.is_missing(cell)]
        holds, labels = labels_of(cells, texts=holds == "text")
    if holds is None:
        holds = held(labels)[0] if labels else "time" if dates else "number"
    spikes = tuple(sorted(map(float, block.get("spikes", []))))
    return Column(name, kind, holds, tuple(labels), spelled, dates, spikes, why)


def _block(told: Mapping[str, Any]) -> str:
    lines = [f"{name} = {_value(value)}" for name, value in told.items()]
    return "\n".join(["[[column]]", *lines, ""])


def _value(value: Any) -> str:
    """A text, a number, a truth value or a list of them in TOML: what JSON writes, but for one control character."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{value} is no label")
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
