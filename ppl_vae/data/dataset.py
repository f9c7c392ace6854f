"""`open_data`: what a user names, read, checked, binarized and split by rows.

Rows and columns in messages count from 0, as numpy does.
"""

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core import memory
from ppl_vae.core.errors import InputError
from ppl_vae.data.arrays import Dataset
from ppl_vae.data.binarize import BINARIZE, binarized, check_unit
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.data.columns import AnySchema, fields_of
from ppl_vae.data.protocol import CHUNK, SPLITS
from ppl_vae.data.randomness import generator
from ppl_vae.data.raw import Raw
from ppl_vae.data.source import Source

MISSING = ("error", "nan")


def open_data(
    source: Source,
    *,
    scale: float | None = None,
    missing: str = "error",
    binarize: str | None = None,
    split_seed: int = 0,
    valid: float = 0.1,
    test: float = 0.1,
    schema: AnySchema | None = None,
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

    `schema`: what the columns of a csv, a parquet file or a DataFrame are, or which parts of an .h5ad or an AnnData
    are the fields; without it, columns are numbers, and cells have the field x alone.

    Raises `InputError` for anything that cannot be read, is not finite, or does not fit these options.
    """
    name, fields, raws = fields_of(source, schema)
    usual, divisor = (BUILTIN[name].binarize, BUILTIN[name].largest) if name in BUILTIN else ("none", scale)
    binarize = usual if binarize is None else binarize
    check_scale(name, scale)
    check_options(missing, binarize, valid, test)
    rows = {len(raw.values) for raw in raws}
    if len(rows) > 1:
        each = ", ".join(f"{len(raw.values)} in {raw.where}" for raw in raws)
        raise InputError(f"all fields need the same number of rows, but there are {each}")
    parts = _split(rows.pop(), valid, test, generator("split", split_seed))
    first = _converted(raws[0], divisor, first=True, missing=missing == "nan")
    others = [_converted(raw, None, first=False) for raw in raws[1:]]
    if binarize != "none":
        check_unit(first, raws[0], scale, binarize)
    copies = sum(x.nbytes for x in (first, *others)) + 2 * first.nbytes * (binarize in ("once", "epoch"))
    memory.check_memory(copies, f"{name} is copied where it is split, which takes", "give a part of it, or --stream on")
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
        dict(zip(SPLITS, parts, strict=True)),
        {each: raw.names for each, raw in zip(fields, raws, strict=True) if raw.names},
        image_of(name, tuple(first.shape[1:])),
    )


def image_of(name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of the picture that a datum of a set is: what a built-in set says, else what the shape tells."""
    return BUILTIN[name].image if name in BUILTIN else image_shape(shape)


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a datum, if it is a picture: `(H, W)`, or with 1, 3 or 4 channels first or last; else None."""
    channels = (1, 3, 4)
    return shape if len(shape) == 2 or (len(shape) == 3 and (shape[0] in channels or shape[2] in channels)) else None


def _converted(raw: Raw, scale: float | None, first: bool, missing: bool = False) -> Tensor:
    """Cast and scale `(rows, *shape)`; raises `InputError` unless all is finite, or NaN where that is `missing`."""
    values = raw.values
    if first and values.ndim == 1:
        raise InputError(one_number(raw.where))
    if not raw.keeps_dtype:
        values = values.to(dtype_of(first or values.is_floating_point()))
    values = finite(raw, values, scale, first, missing)
    if values.isnan().all():
        raise InputError(no_number(raw.where))
    return values


def dtype_of(floats: bool) -> torch.dtype:
    """What numbers become that come without a dtype of torch."""
    return torch.get_default_dtype() if floats else torch.int64


def one_number(where: str) -> str:
    return f"{where} has one number per row: reshape to (rows, 1)"


def no_number(where: str) -> str:
    return f"{where} holds no number: every cell is missing"


def finite(raw: Raw, values: Tensor, scale: float | None, first: bool, missing: bool) -> Tensor:
    """The values, scaled; raises `InputError` unless all are finite, or NaN where that is `missing`."""
    if scale is not None:
        values = values / scale
    bad = torch.cat([~part.isfinite() for part in values.split(CHUNK)])  # which takes several copies of a part
    if missing:
        bad &= ~values.isnan()
    if bad.any():
        kind = str(values.dtype).removeprefix("torch.")
        what = f"{raw.where}: {int(bad.sum())} of {bad.numel()} numbers are not finite as {kind}"
        nan = ", or fit with --missing nan" if first and values[bad][0].isnan() else ""
        raise InputError(f"{what}\nThe first: {raw.first(bad, raw.values)}; fix or leave out such rows{nan}")
    return values


def check_scale(name: str, scale: Any) -> None:
    """Raise `InputError` for a scale of a built-in set, or one that is no finite number above 0."""
    if scale is not None and name in BUILTIN:
        raise InputError(f"{name} comes scaled to [0, 1]: leave out the scale")
    if scale is not None and not (_is_finite(scale) and scale > 0):
        raise InputError(f"scale={scale} must be a finite number above 0, e.g. 255 for uint8 images")


def check_options(missing: Any, binarize: Any, valid: Any, test: Any) -> None:
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


def _sha256(raws: list[Raw]) -> str:
    digest = hashlib.sha256()
    for raw in raws:
        digest.update(f"{tuple(raw.values.shape)} {raw.values.dtype}\n".encode())
        digest.update(raw.values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False
