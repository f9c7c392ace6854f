"""Columns of the data from which nothing can be learned."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ppl_vae.checks.subject import Finding, Subject
from ppl_vae.data.binarize import BIT
from ppl_vae.programs.standardize import StandardizedModel

SHOWN, FEWEST = 12, 10  # at most so many columns in a message; data of fewer rows are not checked
COARSE = 100  # numbers that a dtype has over the range of a column; with fewer the data are rounded


def varies(s: Subject) -> Iterator[Finding]:
    """In the training rows no column of a table is constant, and no column has only missing cells.

    In a table without column names, a constant column of the smallest number of all is allowed: it may be the margin of
    an image that was written as a row. None is so far from 0 that the dtype of the data rounds it, or has squares that
    the dtype can't hold. Rows that were checked before are not looked at again.
    """
    if s.dataset.checked:
        return
    for i, (field, shape) in enumerate(zip(s.dataset.fields, s.dataset.shapes, strict=True)):
        names = s.dataset.columns.get(field, ())
        flat = len(shape) == 1 or (not shape and names)
        if not flat or s.dataset.lengths["train"] < FEWEST or (i == 0 and s.dataset.image):
            continue
        low, high, seen = s.dataset.extent(i)
        dtype = str(low.dtype).removeprefix("torch.")
        if i == 0 and s.dataset.binarize == "epoch":
            low, high = low > BIT, high > BIT
        constant = (low == high) & ((low > low.min()) | bool(names))
        if (~seen).any():
            yield s.warning(f"{_columns(~seen, field, names)} no value in any training row: leave out such columns")
        if constant.any():
            yield s.warning(
                f"{_columns(constant, field, names)} one value as {dtype} in all training rows: nothing is learned "
                "from it, and a density there may grow without bound. Leave out such columns"
            )
        if low.is_floating_point():
            about, size = torch.finfo(low.dtype), torch.maximum(low.abs(), high.abs())
            extreme = seen & ((size > about.max**0.5) | ((low < high) & (high - low < about.tiny**0.5)))
            if extreme.any() and not isinstance(s.pair.model, StandardizedModel):
                yield s.warning(
                    f"{_columns(extreme, field, names)} numbers whose squares are too large or too small for {dtype}: "
                    "a density may not be finite there. Multiply the column by a power of ten, or use --standardize"
                )
            step = about.eps * size
            coarse = (low < high) & (high - low < COARSE * step)
            if coarse.any():
                yield s.warning(
                    f"{_columns(coarse, field, names)} numbers too far from 0 for their range, in which {dtype} has "
                    f"fewer than {COARSE}: the data are rounded, and log p(x) is that of rounded data. Subtract a "
                    f"number from the column{', or use --precision float64' if dtype == 'float32' else ''}"
                )


def _columns(chosen: Tensor, field: str, names: Sequence[str]) -> str:
    """`columns 'a', 'b' of x hold`."""
    numbers = chosen.nonzero().flatten().tolist()
    shown = ", ".join(repr(names[n]) if names else str(n) for n in numbers[:SHOWN])
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    several = len(numbers) > 1
    return f"column{'s' * several} {shown}{more} of field {field!r} {'hold' if several else 'holds'}"
