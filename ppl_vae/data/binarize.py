"""Values in [0, 1] as 0 and 1: by a threshold, by one draw, or by a draw in each epoch."""

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.data.randomness import generator
from ppl_vae.data.raw import Raw

BINARIZE = ("none", "threshold", "once", "epoch")
BIT = 0.5
"""The threshold: what is above is 1."""


def binarized(grey: Tensor, binarize: str) -> Tensor:
    """0 or 1 for each value of `grey`, `(rows, *shape)`: 1 above a half under `threshold`, else the draw of `once`."""
    return (grey > BIT).to(grey.dtype) if binarize == "threshold" else draw(grey, generator("once"))


def draw(grey: Tensor, random: torch.Generator) -> Tensor:
    """0 or 1, each 1 with the probability `grey` `(rows, *shape)`."""
    u = uniform(tuple(grey.shape), random)
    return torch.lt(u, grey, out=u).to(grey.dtype)  # in place: a new tensor of this size costs more than the draw


def drawn_once(grey: Tensor, numbers: Tensor, rows: int) -> Tensor:
    """The draw of `once` for some rows of a larger set, the same for a row whatever the split.

    Args:
        numbers: where each row of `grey` stands in the data as read, `(len(grey),)`.
        rows: how many rows the data have.
    """
    return (uniform((rows, *grey.shape[1:]), generator("once"))[numbers] < grey).to(grey.dtype)


def uniform(shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=random, dtype=torch.float32, device="cpu")


def check_unit(values: Tensor, raw: Raw, scale: float | None, binarize: str) -> None:
    """Raise `InputError` for a value outside [0, 1], which is no probability."""
    bad = (values < 0) | (values > 1)
    if not bad.any():
        return
    largest = values.max().item() * (scale or 1)
    fix = f"divide by {largest:g}: --scale {largest:g}"
    if scale is None and largest <= 255:
        fix = "divide pixels by 255: --scale 255"
    if (values < 0).any():
        fix = "shift and scale the data, or use binarize none"
    what = f"{raw.where}: binarize {binarize} needs values in [0, 1], but {raw.first(bad, values)}"
    raise InputError(f"{what}\n{fix[0].upper()}{fix[1:]}")
