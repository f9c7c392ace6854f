"""`.parquet`: a table by columns, each with its type."""

from typing import IO

import numpy as np

from ppl_vae.data import sizes
from ppl_vae.data.table import chosen_columns, refuse_twice_named


class Parquet:
    """A table of typed columns, as pandas and pyarrow write it."""

    name = ".parquet"

    @staticmethod
    def read(file: IO[bytes], path: str, key: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
        import pandas
        from pyarrow.parquet import ParquetFile

        opened = ParquetFile(file)
        refuse_twice_named(opened.schema_arrow.names, path)
        about = opened.metadata
        told = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        sizes.check_memory(path, max(told, 8 * about.num_rows * about.num_columns))  # 8 bytes in a column's cell
        file.seek(0)
        return chosen_columns(pandas.read_parquet(file, engine="pyarrow"), path, key)
