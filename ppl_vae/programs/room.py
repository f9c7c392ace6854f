"""Is there memory for so many passes of a program? An estimate from below, before the first of them."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from ppl_vae.core.memory import check_memory

SMALL = 2**26
"""Bytes of data in so many passes, below which nothing is estimated."""


def check_room(programs: Iterable[Callable[..., Any]], row: Iterable[Tensor], passes: int, what: str) -> None:
    """Check that a row can be passed through the programs `passes` times at once.

    A pass takes at least three times the row's bytes (x, what the decoder says of it, and what is drawn or scored), and
    for each linear layer the numbers that come out of it.

    Args:
        row: one row, `(1, ...)` for each field.
        what: the beginning of the sentence: which passes.

    Raises:
        InputError: there is no memory for them.
    """
    size = sum(x.numel() * x.element_size() for x in row)
    if passes * size > SMALL:
        modules = [program for program in programs if isinstance(program, nn.Module)]
        size = 3 * size + 4 * sum(p.shape[0] for module in modules for p in module.parameters() if p.dim() == 2)
        check_memory(passes * size, f"{what}: they take at least", "ask for fewer")
