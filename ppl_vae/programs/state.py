"""What a pass may change in modules besides gradients, and how it is restored."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from torch import nn


class buffers_kept(contextlib.AbstractContextManager[None]):
    """Restore all buffers at the end, such as the running mean of a BatchNorm, which every pass changes.

    A buffer to which another tensor was assigned is the old tensor again. It is written to by way of `data`, which does
    not count as a change to it, so that a graph which holds it can still be differentiated. Programs that are no
    `nn.Module` have no buffers. It is no generator: that of a stack whose exits are dropped by `pop_all` would restore
    when it is collected.
    """

    def __init__(self, *programs: Any) -> None:
        found = ((m, name, b) for m in _modules(programs) for name, b in m.named_buffers(recurse=False))
        self.buffers = [(module, name, buffer, buffer.clone()) for module, name, buffer in found]

    def __exit__(self, *exc: object) -> None:
        for module, name, buffer, before in self.buffers:
            buffer.data.copy_(before)
            setattr(module, name, buffer)


@contextlib.contextmanager
def attributes_kept(*programs: Any) -> Iterator[None]:
    """Restore the attributes of all modules at the end: a pass may keep there a tensor that has no numbers."""
    before = {module: dict(vars(module)) for module in _modules(programs)}
    try:
        yield
    finally:
        for module, attributes in before.items():
            vars(module).clear()
            vars(module).update(attributes)


_without_numbers: ContextVar[bool] = ContextVar("without_numbers", default=False)


@contextlib.contextmanager
def without_numbers() -> Iterator[None]:
    """Programs run on tensors that have no numbers, so that nothing about numbers can be checked."""
    token = _without_numbers.set(True)
    try:
        yield
    finally:
        _without_numbers.reset(token)


def has_numbers() -> bool:
    """Do tensors have numbers here that can be checked?"""
    return not _without_numbers.get()


@contextlib.contextmanager
def evaluating(*programs: Any) -> Iterator[None]:
    """Put every module into evaluation mode, and at the end back into the mode that it had."""
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
