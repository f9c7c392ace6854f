"""What a pass may change in modules besides gradients, and how it is put back."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn


@contextlib.contextmanager
def buffers_kept(*programs: Any) -> Iterator[None]:
    """Buffers as they were, afterwards: what passes do to those of a BatchNorm is undone.

    A buffer that was assigned anew is the old tensor again. It is written to by way of `data`, which does not count as
    a change to it, so that a graph which holds it can still be differentiated. What is no `nn.Module` has none.
    """
    buffers = [(m, name, b, b.clone()) for m in _modules(programs) for name, b in m.named_buffers(recurse=False)]
    try:
        yield
    finally:
        for module, name, buffer, before in buffers:
            buffer.data.copy_(before)
            setattr(module, name, buffer)


@contextlib.contextmanager
def evaluating(*programs: Any) -> Iterator[None]:
    """Every module in evaluation mode, and each back in its own afterwards."""
    modes = {module: module.training for module in _modules(programs)}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _modules(programs: tuple[Any, ...]) -> list[nn.Module]:
    return list(dict.fromkeys(m for program in programs if isinstance(program, nn.Module) for m in program.modules()))
