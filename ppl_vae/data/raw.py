"""A field as it was read: a dense tensor of the dtype that it came with, and where it came from."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.errors import InputError

_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Raw(NamedTuple):
    """A field as read: `values` `(rows, *shape)`, where they come from, and a table's column names.

    `begin` is the number of the first row, where these are some of many.
    """

    where: str
    values: Tensor
    columns: tuple[str, ...] = ()
    keeps_dtype: bool = False
    begin: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, unless they only count the columns, as where a csv has no header."""
        return () if self.columns == tuple(map(str, range(len(self.columns)))) else self.columns

    def first(self, offends: Tensor, values: Tensor) -> str:
        """The entry of `values` at the first True of `offends`, both `(rows, *shape)`, and its place."""
        row, *rest = index = tuple(offends.nonzero()[0].tolist())
        column = f", column {rest[0] if len(rest) == 1 else tuple(rest)}" if rest else ""
        named = f" ({self.columns[rest[0]]!r})" if self.columns and rest else ""
        return f"row {self.begin + row}{column}{named} holds {values[index].item():g}"


def as_raw(where: str, values: np.ndarray | Tensor, columns: tuple[str, ...] = ()) -> Raw:
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
