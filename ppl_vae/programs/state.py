"""What a pass may change in modules besides gradients, and how it is restored."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def buffers_kept(*programs: Any) -> Iterator[None]:
    """Restore all buffers at the end, such as the running mean of a BatchNorm, which every pass changes.

    A buffer to which another tensor was assigned is the old tensor again. Programs that are no `nn.Module` have no
    buffers.
    """
    buffers = [(m, name, b, b.clone()) for m in _modules(programs) for name, b in m.named_buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                setattr(module, name, buffer.copy_(before))


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
