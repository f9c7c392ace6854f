"""`.csv`: a table of numbers as text, which is converted once to Parquet, since text has no place to begin at."""

import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import whole
from ppl_vae.data.readers.csv_files import top_of
from ppl_vae.data.streams import blocks
from ppl_vae.data.streams.stores.parquet import Parquet
from ppl_vae.data.table import listing

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Table

CHUNK = 2**22
"""Bytes of text that are read at a time."""


class Csv(Parquet):
    """Numbers separated by commas. What they are converted to lies in the user's cache, and is used again."""

    name = ".csv"

    def __init__(self, path: Path, where: str, key: str | None = None) -> None:
        self.converted = _place(path, key)
        if not self.converted.is_file():
            print(f"{where} is converted once to Parquet, {self.converted}", file=sys.stderr)
            _convert(path, where, key, self.converted)
        super().__init__(self.converted, where)
        self.files = (path,)

    def read(self, start: int, stop: int) -> np.ndarray:
        try:
            return super().read(start, stop)
        except OSError as error:
            raise InputError(
                f"{self.converted} is damaged ({error}): delete it, and {self.where} is converted anew"
            ) from error


def _place(path: Path, key: str | None) -> Path:
    """Where the numbers of this file, as it is now, are converted to."""
    import platformdirs

    about = path.stat()
    told = f"{path.absolute()} {about.st_size} {about.st_mtime_ns} {key}"
    name = f"{path.stem}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.parquet"
    return Path(platformdirs.user_cache_dir("ppl_vae")) / "tables" / name


def _convert(path: Path, where: str, key: str | None, place: Path) -> None:
    """
    Raises:
        InputError: no such column, a row of too many or too few cells, or a cell that is no number.
    """
    import pyarrow
    from pyarrow import csv, parquet

    with path.open("rb") as file:
        top, headless = top_of(file, where, key)
    names = [str(i) for i in range(len(top))] if headless else top
    chosen = names if key is None else key.split(",")
    if unknown := [name for name in chosen if name not in names]:
        raise InputError(f"{where} has no column {unknown[0]!r}; its columns are {listing(names)}")
    floats = {name: pyarrow.float64() for name in chosen} if len(chosen) > 1 else {}
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        reader = csv.open_csv(
            path,
            csv.ReadOptions(column_names=names, skip_rows=0 if headless else 1, block_size=CHUNK, use_threads=False),
            convert_options=csv.ConvertOptions(include_columns=chosen, column_types=floats),
        )
        with whole(place) as beside, parquet.ParquetWriter(beside, reader.schema, write_page_checksum=True) as writer:
            for table in _grouped(reader, max(1, blocks.BLOCK // len(chosen))):
                writer.write_table(table)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        if "conversion error" not in reason:
            raise InputError(f"{where}: cannot be read as .csv; write it anew\n{reason}") from error
        raise InputError(f"{where}: {reason}: only numbers are streamed, so choose columns, {where}:a,b") from error


def _grouped(batches: Iterable["RecordBatch"], rows: int) -> Iterator["Table"]:
    """The same rows in tables of so many."""
    import pyarrow

    left = None
    for batch in itertools.chain(batches, (None,)):
        table = left if batch is None else pyarrow.Table.from_batches([batch])
        if table is None:
            return
        if batch is not None and left is not None:
            table = pyarrow.concat_tables([left, table])
        while len(table) >= rows:
            yield table.slice(0, rows).combine_chunks()
            table = table.slice(rows)
        left = table
    if left is not None and len(left):
        yield left.combine_chunks()
