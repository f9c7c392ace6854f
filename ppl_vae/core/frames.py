"""Arrays with a row for each datum as tables with named columns, and as files by the ending of their name."""

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import check_file, write_bytes

if TYPE_CHECKING:
    import pandas

Names = Mapping[str, Sequence[str]]
Arrays = dict[str, np.ndarray]
"""The columns of some arrays `(N, D)`, D names each; of an array `(N,)` one."""

TABLES = (".csv", ".parquet")
ENDINGS = (*TABLES, ".npz", ".npy")
ROW = "row"


def out_file(out: Any, default: Path, endings: Sequence[str] = ENDINGS) -> Path:
    """Where to write.

    Raises:
        InputError: before the work, for what is no file's name, or has another ending.
    """
    path = default if out is None else Path(out).expanduser()
    if path.suffix not in endings:
        kinds = f"{', '.join(endings[:-1])} or {endings[-1]}" if len(endings) > 1 else endings[0]
        raise InputError(f"{path}: give a name that ends in {kinds}, by which the kind of file is chosen")
    check_file(path)
    return path


def to_frame(
    arrays: "Mapping[str, np.ndarray | pandas.DataFrame]", names: Names | None = None, index: Any = None
) -> "pandas.DataFrame":
    """Arrays side by side as the columns of one table.

    Args:
        arrays: `(N,)` or `(N, D)` each, with the same N; or tables, whose columns have names.
        names: of the columns; where an array is not in it, `name`, or `name_1`, …, `name_D`.
        index: what tells the rows, `(N,)`: an index of pandas is kept as it is, row numbers are called `row`.

    Raises:
        InputError: an array whose rows are no rows of a table, or two columns of one name.
    """
    import pandas

    found: list[tuple[str, Any]] = []
    for name, x in arrays.items():
        if isinstance(x, pandas.DataFrame):
            found += [(str(label), column.array) for label, column in x.items()]
            continue
        if x.ndim > 2:
            raise InputError(f"{name} holds {x.shape[1:]} numbers for each row, which is no row of a table: write .npz")
        each = [f"{name}_{i + 1}" for i in range(x.shape[1])] if x.ndim > 1 else [name]
        found += zip((names or {}).get(name, each), x.T if x.ndim > 1 else [x], strict=True)
    labels = [label for label, _ in found]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise InputError(f"two columns would be called {twice!r}: write .npz")
    if index is not None and not isinstance(index, pandas.Index):
        index = pandas.Index(np.asarray(index), name=ROW)
    return pandas.DataFrame(dict(found), index=index)


def write_frame(frame: "pandas.DataFrame", path: Path, index: bool = False) -> None:
    """Write a table as .csv or .parquet, whole or not at all.

    In a .csv the numbers of a column that are all whole, such as codes, are written without a point; in a .parquet
    the cells of a column with several types are written as texts.

    Args:
        index: write what tells the rows too, as the first column; without a name of its own it is called `row`.
    """
    if index:
        named = [name or ROW for name in frame.index.names]
        frame = frame.rename_axis([f"{name}_number" if name in frame.columns else name for name in named])
    if path.suffix == ".csv":
        write_bytes(path, frame.apply(_whole).to_csv(index=index).encode())
        return
    buffer = io.BytesIO()
    frame.apply(_of_one_type).to_parquet(buffer, engine="pyarrow", index=index)
    write_bytes(path, buffer.getvalue())


def _whole(column: "pandas.Series") -> "pandas.Series":
    """The column as integers, if that loses nothing, not even the sign of a 0."""
    if column.dtype.kind != "f":
        return column
    x = column.to_numpy()
    with np.errstate(invalid="ignore"):
        whole = (np.abs(x) < 2**53) & (x == np.round(x)) & ~((x == 0) & np.signbit(x))
    return column.astype(np.int64) if len(x) and whole.all() else column


def _of_one_type(column: "pandas.Series") -> "pandas.Series":
    """The column with texts for cells of several types, which parquet does not take."""
    if column.dtype.kind != "O" or len(set(map(type, column.dropna()))) < 2:
        return column
    return column.where(column.isna(), column.map(str))


def shortest(x: np.ndarray) -> np.ndarray:
    """Numbers in single precision as float64 with no more digits than tell them: 0.1, not 0.10000000149."""
    return x.astype(str).astype(np.float64) if x.dtype == np.float32 else x.astype(np.float64)


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays by their names as .npz, or one array as .npy, whole or not at all.

    Raises:
        InputError: several arrays for one .npy.
    """
    buffer = io.BytesIO()
    if path.suffix == ".npy":
        if len(arrays) > 1:
            raise InputError(f"{path}: .npy holds one array, and there are {', '.join(arrays)}: write .npz")
        np.save(buffer, next(iter(arrays.values())), allow_pickle=False)
    else:
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def is_frame(data: Any) -> bool:
    """Is it a DataFrame? Pandas is not imported to tell."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def index_of(data: Any, numbers: Iterable[int]) -> Any:
    """What tells the rows: the index of a DataFrame, the names of an AnnData's cells, else the numbers of the rows."""
    names = getattr(data, "obs_names", None)
    return data.index if is_frame(data) else np.asarray(numbers) if names is None else names


def labels_of(index: Any) -> list[int | float | str]:
    """What tells the rows, as JSON takes it."""
    plain = (each.item() if isinstance(each, np.generic) else each for each in index)
    return [each if isinstance(each, int | float | str) else str(each) for each in plain]
