"""New rows, read by the rules that a run was fitted under: its fields, columns, dtypes, scale and binarization."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.binarize import binarized, check_unit
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.data.columns import AnySchema, fields_of
from ppl_vae.data.dataset import check_scale, finite
from ppl_vae.data.protocol import SPLITS, Batch, Data
from ppl_vae.data.raw import Raw
from ppl_vae.data.source import default_names
from ppl_vae.data.streams import Stream
from ppl_vae.data.table import listing


@dataclass(frozen=True)
class Rules:
    """How a run's data were read.

    Args:
        columns: the names of the columns of each field that has names.
        scale: divides the first field. A built-in set has its own.
        range: smallest and largest number of the first field, as the programs saw it before binarization.
        schema: what the columns of a table are, or which parts of single-cell data the fields are.
    """

    fields: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    columns: Mapping[str, tuple[str, ...]]
    scale: float | None
    missing: bool
    binarize: str
    range: tuple[float, float] | None
    schema: AnySchema | None = None


@dataclass(frozen=True)
class Rows:
    """Rows in the order given, of which a batch is taken when it is needed.

    Args:
        numbers: where each row stands in the data as read, `(N,)`.
        take: the rows at some places from 0 to N − 1, one tensor `(n, *shape)` per field.
    """

    numbers: Tensor
    take: Callable[[Tensor], Batch]

    def part(self, part: slice) -> "Rows":
        """The rows of a range."""
        places = torch.arange(len(self.numbers))[part]
        return Rows(self.numbers[part], lambda wanted: self.take(places[wanted]))

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All rows in order, `batch_size` at a time."""
        return (self.take(places) for places in torch.arange(len(self.numbers)).split(batch_size))

    def first(self, count: int) -> Batch:
        """The first rows, `count` or as many as there are."""
        return self.take(torch.arange(min(count, len(self.numbers))))

    @property
    def batch(self) -> Batch:
        """All rows together."""
        return self.first(len(self.numbers))


def rows_in_order(data: Data) -> Rows:
    """All rows of a data set, in the order in which they were read."""
    if isinstance(data, Stream):
        return Rows(torch.arange(data.blocks.rows), data.by_number)
    numbers = {split: data.numbers(split) for split in SPLITS}
    splits = torch.cat([torch.full((len(numbers[split]),), i) for i, split in enumerate(SPLITS)])
    places = torch.cat([torch.arange(len(numbers[split])) for split in SPLITS])
    sorted_numbers, order = torch.cat(list(numbers.values())).sort()
    splits, places = splits[order], places[order]

    def take(wanted: Tensor) -> Batch:
        here = [(splits[wanted] == i).nonzero().flatten() for i in range(len(SPLITS))]
        parts = [data.rows(split, places[wanted[at]]) for split, at in zip(SPLITS, here, strict=True) if len(at)]
        back = torch.cat(here).argsort()
        return tuple(torch.cat(field)[back] for field in zip(*parts, strict=True))

    return Rows(sorted_numbers, take)


def held_out(data: Data) -> Rows:
    """The test rows of a data set."""
    return Rows(data.numbers("test"), lambda places: data.rows("test", places))


def read_rows(source: Any, rules: Rules, scale: float | None = None) -> Rows:
    """Rows for a run: one is enough, and they are not split.

    Columns go by their names, in any order. Under `binarize="epoch"` each row gets the one draw of `once`.

    Args:
        source: as for `open_data`.
        scale: in place of the run's.

    Raises:
        InputError: other fields, columns, shapes or dtypes than the run's; a number that the dtype does not hold, that
            is not finite, or that can't be binarized.
    """
    name, fields, raws = fields_of(source, rules.schema)
    check_scale(name, scale)
    if rules.schema is not None and scale is not None:
        raise InputError("the columns of the run's data have no common scale: leave out --scale")
    if name in BUILTIN:
        scale = BUILTIN[name].largest
    elif scale is None:
        scale = rules.scale
    raws = _by_field(fields, raws, rules)
    aligned = [_by_column(raw, rules.columns.get(each, ())) for each, raw in zip(rules.fields, raws, strict=True)]
    rows = {len(raw.values) for raw in aligned}
    if len(rows) > 1:
        each = ", ".join(f"{len(raw.values)} in {raw.where}" for raw in aligned)
        raise InputError(f"all fields need the same number of rows, but there are {each}")
    _check_shapes(aligned, rules)
    first, *others = (_cast(raw, dtype) for raw, dtype in zip(aligned, rules.dtypes, strict=True))
    x = finite(aligned[0], first, scale, first=True, missing=rules.missing)
    rest = [finite(raw, values, None, False, False) for raw, values in zip(aligned[1:], others, strict=True)]
    if rules.binarize != "none":
        check_unit(x, aligned[0], scale, rules.binarize)
    _doubt(aligned[0], first, x, scale, rules)
    if rules.binarize != "none":
        x = binarized(x, rules.binarize)
    batch = (x, *rest)
    return Rows(torch.arange(len(x)), lambda places: tuple(values[places] for values in batch))


def _by_field(fields: tuple[str, ...], raws: list[Raw], rules: Rules) -> list[Raw]:
    """The run's fields in its order: by name, or by position where the names are those that a file gets by default."""
    if set(fields) == set(rules.fields):
        return [raws[fields.index(name)] for name in rules.fields]
    if len(fields) != len(rules.fields):
        got, wanted = (
            ", ".join(f"{tuple(shape)} of {str(dtype).removeprefix('torch.')}" for shape, dtype in each)
            for each in (
                [(raw.values.shape[1:], raw.values.dtype) for raw in raws],
                zip(rules.shapes, rules.dtypes, strict=True),
            )
        )
        raise InputError(f"a datum is {got}; the run was fitted to {wanted} ({', '.join(rules.fields)})")
    if fields != default_names(len(fields)):
        raise InputError(
            f"the data has the fields {', '.join(fields)}, the run {', '.join(rules.fields)}: name them so"
        )
    return raws


def _by_column(raw: Raw, wanted: tuple[str, ...]) -> Raw:
    """The columns in the order of the run, by name; by position where the data has no names."""
    if not wanted:
        return raw
    if not raw.names:
        width = raw.values.shape[1] if raw.values.ndim > 1 else 1
        if width == len(wanted):
            warnings.warn(
                f"{raw.where} has no column names: taken in the order of the run, {listing(wanted)}", stacklevel=2
            )
            return raw._replace(columns=wanted)
        return raw
    missing = [name for name in wanted if name not in raw.names]
    extra = [name for name in raw.names if name not in wanted]
    if missing or extra:
        found = (
            f"has no column {missing[0]!r}" if missing else f"has a column {extra[0]!r}, which the run does not know"
        )
        more = f" (and {len(missing or extra) - 1} more)" if len(missing or extra) > 1 else ""
        raise InputError(f"{raw.where} {found}{more}: the run's columns are {listing(wanted)}")
    if raw.values.ndim == 1:
        return raw
    return raw._replace(values=raw.values[:, [raw.names.index(name) for name in wanted]], columns=wanted)


def _check_shapes(raws: list[Raw], rules: Rules) -> None:
    for raw, shape, dtype in zip(raws, rules.shapes, rules.dtypes, strict=True):
        got = tuple(raw.values.shape[1:])
        if got == shape and not (raw.keeps_dtype and raw.values.dtype != dtype):
            continue
        if tuple(raw.values.shape) == shape:
            raise InputError(f"{raw.where} is {shape}, one datum without a row: reshape to {(1, *shape)}")
        words = [str(each).removeprefix("torch.") for each in (raw.values.dtype if raw.keeps_dtype else dtype, dtype)]
        raise InputError(f"{raw.where}: a datum is {got} of {words[0]}; the run was fitted to {shape} of {words[1]}")


def _cast(raw: Raw, dtype: torch.dtype) -> Tensor:
    """The values in the run's dtype; a number is never cut to an integer."""
    if not dtype.is_floating_point and raw.values.is_floating_point():
        bad = raw.values != raw.values.round()  # NaN too
        if bad.any():
            raise InputError(f"{raw.where}: {raw.first(bad, raw.values)}; the run was fitted to whole numbers here")
    return raw.values.to(dtype)


def _doubt(raw: Raw, read: Tensor, scaled: Tensor, scale: float | None, rules: Rules) -> None:
    """Warn where the scale can hardly be meant."""
    seen = scaled[~scaled.isnan()]
    if not len(seen):
        return
    if scale is not None and scale > 1 and 0 < read[~read.isnan()].abs().max() <= 1:
        warnings.warn(
            f"{raw.where} is divided by {scale:g}, but is no larger than 1 before: --scale 1, if it is scaled",
            stacklevel=2,
        )
    if rules.range is not None:
        low, high = rules.range
        if seen.min() < low - 10 * (high - low) or seen.max() > high + 10 * (high - low):
            warnings.warn(
                f"{raw.where} reaches from {seen.min():g} to {seen.max():g}, the run's data from {low:g} to {high:g}: "
                "are the units the same? --scale divides",
                stacklevel=2,
            )
