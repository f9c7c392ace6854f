"""A table as it lies in a file or a DataFrame: named columns of cells as they are written, whatever they mean.

The delimiter of a csv is found by clevercsv. A decimal comma is taken for one where the delimiter is no comma.
"""

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError
from ppl_vae.core.frames import TABLES, is_frame
from ppl_vae.core.results import counted
from ppl_vae.data.columns.cells import GROUPED
from ppl_vae.data.source import no_file, path_and_key
from ppl_vae.data.table import listing, refuse_twice_named

if TYPE_CHECKING:
    import pandas

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SAMPLE = 2**16
"""Characters by which the delimiter is found."""
_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)?,\d+([eE][+-]?\d+)?")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}\.\d{3}")


@dataclass(frozen=True)
class Table:
    """Cells `(N, D)` with names.

    Args:
        where: what an error calls it.
        only: the columns that were chosen by `FILE:a,b`, if any were.
        about: how it was read, a line.
    """

    frame: "pandas.DataFrame"
    where: str
    only: tuple[str, ...] = ()
    about: str = ""

    @property
    def chosen(self) -> "pandas.DataFrame":
        """The columns that were chosen, or all."""
        names = [str(name) for name in self.frame.columns]
        if unknown := [name for name in self.only if name not in names]:
            raise InputError(f"{self.where} has no column {unknown[0]!r}: the columns are {listing(names)}")
        return self.frame[list(self.only)] if self.only else self.frame


def single(source: Any) -> Any:
    """The only source of a list of one, else the source itself."""
    return source[0] if isinstance(source, list | tuple) and len(source) == 1 else source


def is_table(source: Any) -> bool:
    """Is it a DataFrame, or the name of one csv or parquet file, with columns or without?"""
    source = single(source)
    if is_frame(source):
        return True
    if not isinstance(source, str | os.PathLike):
        return False
    path = Path(path_and_key(os.fspath(source))[0]).expanduser()
    return path.suffix.lower() in TABLES and not path.is_dir()


def read_table(source: Any) -> Table:
    """Read a csv, a parquet file or a DataFrame.

    Raises:
        InputError: what is no such thing, can't be read, or has no rows.
    """
    source = single(source)
    if is_frame(source):
        frame = source.set_axis([str(name) for name in source.columns], axis=1)
        shape = f"{counted(len(frame), 'row')}, {counted(frame.shape[1], 'column')}"
        return Table(frame, "the DataFrame", about=f"a DataFrame: {shape}")
    if not is_table(source):
        shown = source if isinstance(source, str | os.PathLike) else type(source).__name__
        raise InputError(f"{shown} is no table: give a file, {' or '.join(TABLES)}, or from Python a DataFrame")
    where, key = path_and_key(os.fspath(source))
    path = Path(where).expanduser()
    if not path.is_file():
        raise InputError(no_file(where))
    memory.check_memory(
        path.stat().st_size,
        f"{where} holds",
        "a table with texts, dates or missing cells has to fit into it. Give a part of the rows; or choose columns of "
        f"numbers, {where}:a,b, and name a model, such as --model gaussian: these are read while it trains",
    )
    frame, how = _parquet(path, where) if path.suffix.lower() == ".parquet" else _csv(path, where)
    shape = f"{counted(len(frame), 'row')}, {counted(frame.shape[1], 'column')}"
    return Table(frame, where, tuple(key.split(",")) if key else (), f"{where}: {shape}; {how}")


def _parquet(path: Path, where: str) -> tuple["pandas.DataFrame", str]:
    import pandas

    try:
        with path.open("rb") as file:
            frame = pandas.read_parquet(file, engine="pyarrow")
    except Exception as error:  # whatever pyarrow raises is about the file
        raise InputError(f"{where} can't be read as parquet: {str(error).splitlines()[0]}") from error
    return frame.set_axis([str(name) for name in frame.columns], axis=1), "parquet"


def _csv(path: Path, where: str) -> tuple["pandas.DataFrame", str]:
    import pandas

    text, encoding = _text(path.read_bytes(), where)
    delimiter = _delimiter(text)
    lines = [line for line in _lines(text, delimiter, where) if line and any(cell.strip() for cell in line)]
    if not lines:
        raise InputError(f"{where} is empty")
    top = [cell.strip() for cell in lines[0]]
    headless = any(top) and all(_is_number(cell) for cell in top if cell)
    if headless and len(lines) == 1:
        raise InputError(f"{where} has one line, and no names of columns")
    names = [f"column {i + 1}" if headless or not name else name for i, name in enumerate(top)]
    rows = lines if headless else lines[1:]
    if len(names) == 1:
        _refuse_other_delimiter(names[0], [row[0] for row in rows], where)
    for i, row in enumerate(rows):
        if len(row) != len(names):
            what = f"{where}: row {i} has {counted(len(row), 'cell')}, and there are {len(names)} columns"
            raise InputError(
                f"{what}\nA {NAMES[delimiter]} separates cells here: put one that is part of a cell in quotes"
            )
    refuse_twice_named(names, where)
    comma = delimiter != "," and _decimal_comma(rows, where)
    columns = [[_pointed(cell) if comma else cell for cell in column] for column in zip(*rows, strict=True)]
    frame = pandas.DataFrame(dict(zip(names, columns or [[] for _ in names], strict=True)), dtype=object)
    how = [f"separated by {NAMES[delimiter]}s", "decimal comma" * comma, encoding, "no line of names" * headless]
    return frame, ", ".join(filter(None, how))


def _text(content: bytes, where: str) -> tuple[str, str]:
    """The characters of a file, and the name of their encoding."""
    encoding = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "UTF-8"
    try:
        text = content.decode("utf-16" if encoding == "UTF-16" else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        place = f"line {line} holds the byte 0x{content[error.start]:02x}"
        raise InputError(
            f"{where} is not {encoding}: {place}\nSave it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 {where}"
        ) from error
    if "\0" in text:
        line = text.partition("\0")[0].count("\n") + 1
        raise InputError(f"{where} is no text: line {line} holds a zero byte\nSave it as UTF-8")
    return text, encoding


def _delimiter(text: str) -> str:
    """Comma, semicolon, tab or bar: what clevercsv finds in the first lines, and a comma where it finds nothing."""
    import clevercsv

    sample = text[:SAMPLE]
    if len(text) > SAMPLE and "\n" in sample:
        sample = sample[: sample.rindex("\n") + 1]
    try:
        found = clevercsv.Sniffer().sniff(sample, delimiters=list(DELIMITERS))
    except clevercsv.Error:
        return ","
    top = sample.lstrip().partition("\n")[0]
    return found.delimiter if found is not None and found.delimiter and found.delimiter in top else ","


def _refuse_other_delimiter(name: str, cells: list[str], where: str) -> None:
    """Raise `InputError` for a table of one column that looks like one of several with a delimiter of another sort."""
    for delimiter in (":", " ", "^", "~"):
        parts = name.count(delimiter)
        if parts and cells and all(cell.strip().count(delimiter) == parts for cell in cells):
            known = ", ".join(NAMES.values())
            raise InputError(f"{where} was read as one column, {name!r}: separate cells by one of these: {known}")


def _lines(text: str, delimiter: str, where: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"{where} can't be read as csv: line {reader.line_num}: {error}") from error


def _decimal_comma(rows: list[list[str]], where: str) -> bool:
    """Is a comma in a number the decimal sign?"""
    cells = [cell.strip() for row in rows for cell in row]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if not commas:
        return False
    numbers = [cell for cell in cells if _POINT.fullmatch(cell) and not _THOUSANDS.fullmatch(cell)]
    sure = [cell for cell in commas if not GROUPED.fullmatch(cell)]
    if bool(sure) != bool(numbers):
        return bool(sure)
    why = f"{numbers[0]!r} has a point" if numbers else "it may set off thousands"
    raise InputError(f"{where}: is the comma of {commas[0]!r} a decimal sign? {why}: write all numbers alike")


def _pointed(cell: str) -> str:
    """A number with a decimal comma written with a point."""
    return cell.replace(".", "").replace(",", ".") if _COMMA.fullmatch(cell.strip()) else cell


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
