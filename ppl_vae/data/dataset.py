"""Arrays in, batches out: built-in sets, files and arrays, checked, binarized and split by rows.

Rows and columns in messages count from 0, as numpy does.
"""

import hashlib
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.readers import BUILTIN, Raw, Source, gather

MISSING = ("error", "nan")
BINARIZE = ("none", "threshold", "once", "epoch")
LARGEST = {"mnist-5k": 255.0, "digits": 16.0}
IMAGES = {"mnist-5k": (28, 28), "digits": (8, 8)}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Fields, split by rows. A batch is a tuple of tensors, one per field, in the order of `fields`.

    Each split holds one tensor `(rows, *shape)` per field. Under `binarize="epoch"` the first field of
    `train` keeps its grey values in [0, 1], and `epoch` draws from them. `sha256` is that of the arrays as
    read (shape, dtype, bytes), before scaling, binarization and split. `rows` maps `train`, `valid` and
    `test` to row numbers in the data as read. `columns` are the names of the columns of each field, where it has
    names; `image` is the shape of the picture that a datum of the first field is, if it is one.
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
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    image: tuple[int, ...] | None = None

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
        order = self._order(number, seed)
        if self.binarize == "epoch":
            first = _draw(first, _generator("epoch", seed, number))
        return (tuple(values[rows] for values in (first, *others)) for rows in order.split(batch_size)[start:])

    def numbers(self, number: int, batch_size: int, seed: int, batch: int) -> Tensor:
        """The rows of one batch of an epoch, by their numbers in the data as read, `(batch_size,)`."""
        return self.rows["train"][self._order(number, seed).split(batch_size)[batch]]

    def _order(self, number: int, seed: int) -> Tensor:
        return torch.randperm(len(self.train[0]), generator=_generator("order", seed, number), device="cpu")

    def describe(self) -> str:
        """One line: name, rows of each split, shape of each field, range, binarization."""
        splits = (self.train, self.valid, self.test)
        rows = " + ".join(f"{len(split[0])} {name}" for split, name in zip(splits, _SPLITS, strict=True))
        shapes = [f"{n} {tuple(v.shape[1:])}" for n, v in zip(self.fields, self.train, strict=True)]
        first = torch.cat([split[0].flatten() for split in splits])
        there = first[~first.isnan()]
        shapes[0] += f" in [{there.min().item():g}, {there.max().item():g}]"
        if len(there) < len(first):
            shapes[0] += f" with {len(first) - len(there)} of {len(first)} cells missing"
        return f"{self.name}: {rows} rows, {', '.join(shapes)}, binarize {self.binarize}"


def open_data(
    source: Source,
    *,
    scale: float | None = None,
    missing: str = "error",
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

    `missing`: NaN in the first field is an error, or under `nan` a missing cell, and stays NaN.

    `binarize` (default `once` for mnist-5k, else `none`): `threshold` is `x > 0.5`; `once` is one Bernoulli
    draw, the same for a row whatever the split; `epoch` draws training rows anew in each epoch, the others
    as `once`.

    Raises `InputError` for anything that cannot be read, is not finite, or does not fit these options.
    """
    name, fields, raws = gather(source)
    if binarize is None:
        binarize = "once" if name == "mnist-5k" else "none"
    check_scale(name, scale)
    _check_options(missing, binarize, valid, test)
    rows = {len(raw.values) for raw in raws}
    if len(rows) > 1:
        each = ", ".join(f"{len(raw.values)} in {raw.where}" for raw in raws)
        raise InputError(f"all fields need the same number of rows, but there are {each}")
    parts = _split(rows.pop(), valid, test, _generator("split", split_seed))
    first = _converted(raws[0], LARGEST.get(name, scale), first=True, missing=missing == "nan")
    others = [_converted(raw, None, first=False) for raw in raws[1:]]
    if binarize != "none":
        check_unit(first, raws[0], scale, binarize)
    if binarize == "threshold":
        first = binarized(first, binarize)
    drawn = binarized(first, "once") if binarize in ("once", "epoch") else first
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
        {each: raw.names for each, raw in zip(fields, raws, strict=True) if raw.names},
        IMAGES.get(name) or image_shape(tuple(first.shape[1:])),
    )


_SPLITS = ("train", "validation", "test")


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a datum, if it is a picture: `(H, W)`, or with 1, 3 or 4 channels first or last; else None."""
    channels = (1, 3, 4)
    return shape if len(shape) == 2 or (len(shape) == 3 and (shape[0] in channels or shape[2] in channels)) else None


def _converted(raw: Raw, scale: float | None, first: bool, missing: bool = False) -> Tensor:
    """Cast and scale `(rows, *shape)`; raises `InputError` unless all is finite, or NaN where that is `missing`."""
    values = raw.values
    if first and values.ndim == 1:
        raise InputError(f"{raw.where} has one number per row: reshape to (rows, 1)")
    if not raw.keeps_dtype:
        floats = first or values.is_floating_point()
        values = values.to(torch.get_default_dtype() if floats else torch.int64)
    values = finite(raw, values, scale, first, missing)
    if values.isnan().all():
        raise InputError(f"{raw.where} holds no number: every cell is missing")
    return values


def finite(raw: Raw, values: Tensor, scale: float | None, first: bool, missing: bool) -> Tensor:
    """The values, scaled; raises `InputError` unless all are finite, or NaN where that is `missing`."""
    if scale is not None:
        values = values / scale
    bad = ~values.isfinite()
    if missing:
        bad &= ~values.isnan()
    if bad.any():
        kind = str(values.dtype).removeprefix("torch.")
        what = f"{raw.where}: {int(bad.sum())} of {bad.numel()} numbers are not finite as {kind}"
        mend = "mend or leave out such rows" + (", or --missing nan" if first and values[bad][0].isnan() else "")
        raise InputError(f"{what}\nThe first: {raw.first(bad, raw.values)}; {mend}")
    return values


def check_unit(values: Tensor, raw: Raw, scale: float | None, binarize: str) -> None:
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


def check_scale(name: str, scale: Any) -> None:
    """Raise `InputError` for a scale of a built-in set, or one that is no finite number above 0."""
    if scale is not None and name in BUILTIN:
        raise InputError(f"{name} comes scaled to [0, 1]: leave out the scale")
    if scale is not None and not (_is_finite(scale) and scale > 0):
        raise InputError(f"scale={scale} must be a finite number above 0, e.g. 255 for uint8 images")


def _check_options(missing: Any, binarize: Any, valid: Any, test: Any) -> None:
    if binarize not in BINARIZE:
        raise InputError(f"unknown binarize {binarize!r}: use one of {', '.join(BINARIZE)}")
    if missing not in MISSING:
        raise InputError(f"unknown missing {missing!r}: use one of {', '.join(MISSING)}")
    if missing == "nan" and binarize != "none":
        raise InputError(f"missing nan and binarize {binarize} do not go together: a missing cell is neither 0 nor 1")
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


def binarized(grey: Tensor, binarize: str) -> Tensor:
    """Values in [0, 1] as 0 and 1: above a half under `threshold`, else the one draw of `once`."""
    return (grey > 0.5).to(grey.dtype) if binarize == "threshold" else _draw(grey, _generator("once"))


def _draw(grey: Tensor, generator: torch.Generator) -> Tensor:
    """0 or 1, each 1 with the probability `grey` `(rows, *shape)`."""
    uniform = torch.rand(grey.shape, generator=generator, dtype=torch.float32, device="cpu")
    return (uniform < grey).to(grey.dtype)


def _generator(purpose: str, *seeds: int) -> torch.Generator:
    """A generator of its own for each purpose and seeds; seeds may be any integers."""
    numbers = [_integer("seed", seed) for seed in seeds]
    digest = hashlib.sha256(repr((purpose, numbers)).encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:4], "big"))


def _sha256(raws: list[Raw]) -> str:
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
