"""What compiling saves, by rough figures of a small machine: computed, not measured, so that the same task always
decides in the same way."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

OVERHEAD, PRODUCT = 1e-3, 2.5e-12
"""Seconds that it saves: of Python in a call, and of each floating-point operation of its matrix products."""


def saved(calls: float, operations: float) -> float:
    """Seconds that so many calls, of so many floating-point operations each, take less when they are compiled."""
    return calls * (OVERHEAD + PRODUCT * operations)


class Operations(TorchDispatchMode):
    """`with Operations() as counter: work()`, then `counter.total`: floating-point operations of matrix products."""

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out
