"""`.parquet`: a table in row groups, in one file or in a folder of many."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_vae.core.errors import InputError
from ppl_vae.data.streams.stores import Store
from ppl_vae.data.table import listing, refuse_twice_named

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


class Parquet(Store):
    """A table of typed columns. Only those that are asked for are read, a row group at a time.

    Of a folder the files come in the order of their names. Each thread that reads holds one of them open.
    """

    name = ".parquet"
    workers = 1

    def __init__(self, path: Path, where: str, key: str | None = None) -> None:
        files = sorted(path.rglob("[!._]*.parquet"), key=lambda file: file.as_posix()) if path.is_dir() else [path]
        self.where, self.path, self.parts = where, path, tuple(file for file in files if file.is_file())
        self.files = self.parts
        wanted = None if key is None else tuple(key.split(","))
        self.opened = threading.local()
        self.columns: tuple[str, ...] = ()
        types: tuple[Any, ...] = ()
        rows, self.groups, partial = [0], list[tuple[int, int]](), set[str]()
        for number, each in enumerate(self.parts):
            about = self._open(number)
            columns, kinds = self._schema(about, self._told(each), wanted)
            if number and (columns, kinds) != (self.columns, types):
                raise InputError(self._other(each, columns, kinds, types))
            self.columns, types = columns, kinds
            for group in range(about.metadata.num_row_groups):
                meta = about.metadata.row_group(group)
                if meta.num_rows:
                    self.groups.append((number, group))
                    rows.append(rows[-1] + meta.num_rows)
                    partial.update(_with_nulls(meta, columns))
        self.rows, self.edges = rows[-1], np.array(rows)
        if not self.rows:
            raise InputError(f"{where} has no rows")
        each_dtype = [np.dtype(kind.to_pandas_dtype()) for kind in types]
        nullable = [np.dtype(np.float64) if name in partial and dtype.kind != "f" else dtype for name, dtype in zip(
            self.columns, each_dtype, strict=True)]  # fmt: skip
        self.dtype = np.result_type(*nullable)
        self.shape = (len(self.columns),)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, opened=threading.local())

    def read(self, start: int, stop: int) -> np.ndarray:
        found = np.empty((*self.shape, stop - start), self.dtype)
        for group, rows in self._overlaps(start, stop):
            number, inside = self.groups[group]
            table = self._open(number).read_row_group(inside, columns=list(self.columns), use_threads=False)
            begin = int(self.edges[group])
            if table.num_rows != int(self.edges[group + 1]) - begin:
                raise InputError(f"{self._told(self.parts[number])} was written anew since it was opened")
            part = table.slice(rows.start - begin, len(rows))
            if self.dtype.kind != "f" and (gone := [name for name in self.columns if part.column(name).null_count]):
                raise InputError(f"{self._told(self.parts[number])}: column {gone[0]!r} has missing cells")
            for into, name in zip(found, self.columns, strict=True):
                into[rows.start - start : rows.stop - start] = part.column(name).to_numpy(zero_copy_only=False)
        turned: np.ndarray = torch.from_numpy(found).t().contiguous().numpy()  # twice as fast as numpy
        return turned

    def _overlaps(self, start: int, stop: int) -> Iterator[tuple[int, range]]:
        """The row groups that hold rows, and which of them."""
        first = int(np.searchsorted(self.edges, start, side="right")) - 1
        for group in range(first, len(self.groups)):
            low, high = int(self.edges[group]), int(self.edges[group + 1])
            if low >= stop:
                return
            yield group, range(max(low, start), min(high, stop))

    def _open(self, number: int) -> "ParquetFile":
        from pyarrow.parquet import ParquetFile

        if getattr(self.opened, "number", None) == number:
            file: ParquetFile = self.opened.file
            return file
        path = self.parts[number]
        try:
            self.opened.number, self.opened.file = number, ParquetFile(path, page_checksum_verification=True)
            return self.opened.file
        except Exception as error:  # whatever pyarrow raises is about the file
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"{self._told(path)} can't be read as parquet: {reason}") from error

    def _schema(
        self, file: "ParquetFile", told: str, wanted: tuple[str, ...] | None
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Names and types of the columns that are read."""
        import pyarrow

        index = (file.schema_arrow.pandas_metadata or {}).get("index_columns", ())
        there = {field.name: field.type for field in file.schema_arrow if field.name not in index}
        chosen = tuple(there) if wanted is None else wanted
        if unknown := [name for name in chosen if name not in there]:
            raise InputError(f"{told} has no column {unknown[0]!r}; its columns are {listing(list(there))}")
        if not chosen:
            raise InputError(f"{told} has no columns")
        refuse_twice_named(file.schema_arrow.names, told)
        numeric = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean)
        for name in chosen:
            if not any(test(there[name]) for test in numeric):
                raise InputError(
                    f"{told}: column {name!r} is of {there[name]}, not of numbers, and columns of other kinds are not "
                    f"streamed: choose columns, {self.where}:a,b"
                )
        return chosen, tuple(there[name] for name in chosen)

    def _told(self, path: Path) -> str:
        return self.where if path == self.path else os.path.join(self.where, path.relative_to(self.path))

    def _other(self, path: Path, columns: tuple[str, ...], kinds: tuple[Any, ...], types: tuple[Any, ...]) -> str:
        told, first = self._told(path), self._told(self.parts[0])
        if columns != self.columns:
            return (
                f"{told} has the columns {listing(columns)}, but {first} has {listing(self.columns)}: write them alike"
            )
        i = next(i for i, (a, b) in enumerate(zip(kinds, types, strict=True)) if a != b)
        return (
            f"{told}: column {columns[i]!r} is of {kinds[i]}, but in {first} it is of {types[i]}: write all files of "
            "the folder with the same types"
        )


def _with_nulls(meta: Any, columns: tuple[str, ...]) -> Iterator[str]:
    """The columns of a row group that say that a cell is missing."""
    wanted = set(columns)
    for i in range(meta.num_columns):
        column = meta.column(i)
        told = column.statistics
        if column.path_in_schema in wanted and told is not None and told.has_null_count and told.null_count:
            yield column.path_in_schema
