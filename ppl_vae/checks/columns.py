"""Columns of the data from which nothing can be learned."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from ppl_vae.checks.subject import Finding, Subject
from ppl_vae.data.binarize import BIT

SHOWN, FEWEST = 12, 10  # at most so many columns in a message; data of fewer rows are not checked


def varies(s: Subject) -> Iterator[Finding]:
    """In the training rows no column of a table is constant, and no column has only missing cells.

    In a table without column names, a constant column of the smallest number of all is allowed: it may be the margin of
    an image that was written as a row. Rows that were checked before are not looked at again.
    """
    if s.dataset.checked:
        return
    for i, (field, shape) in enumerate(zip(s.dataset.fields, s.dataset.shapes, strict=True)):
        names = s.dataset.columns.get(field, ())
        flat = len(shape) == 1 or (not shape and names)
        if not flat or s.dataset.lengths["train"] < FEWEST or (i == 0 and s.dataset.image):
            continue
        low, high, seen = s.dataset.extent(i)
        if i == 0 and s.dataset.binarize == "epoch":
            low, high = low > BIT, high > BIT
        constant = (low == high) & ((low > low.min()) | bool(names))
        if (~seen).any():
            yield s.warning(f"{_columns(~seen, field, names)} no value in any training row: leave out such columns")
        if constant.any():
            yield s.warning(
                f"{_columns(constant, field, names)} one value in all training rows: nothing is learned from it, and a "
                "density there may grow without bound. Leave out such columns"
            )


def _columns(chosen: Tensor, field: str, names: Sequence[str]) -> str:
    """`columns 'a', 'b' of x hold`."""
    numbers = chosen.nonzero().flatten().tolist()
    shown = ", ".join(repr(names[n]) if names else str(n) for n in numbers[:SHOWN])
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    several = len(numbers) > 1
    return f"column{'s' * several} {shown}{more} of field {field!r} {'hold' if several else 'holds'}"
