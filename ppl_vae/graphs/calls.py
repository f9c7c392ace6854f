"""Functions of programs that are compiled when they are called so often that it pays.

An evaluation calls the same few functions thousands of times: the log weights of a chunk of draws, the slope of
log p(x, u). Such a function is marked `compilable`. Inside of `compiling(...)` its calls are counted, by the programs
and shapes that they have. It is compiled when that would have paid for twice the calls that came: so nothing takes
more than about twice the time of perfect foresight, as with skis that are rented until the rent has come to their
price. What it saves is computed from the operations of a call, not from the clock.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten

from ppl_vae.core.errors import InputError, NumericalError
from ppl_vae.graphs.worth import Operations, saved

P = ParamSpec("P")
R = TypeVar("R")
_present: ContextVar["Compiling | None"] = ContextVar("compiling", default=None)
WORTH = 5.0
"""Seconds that a function has to save, by the figures of `saved`, which are low ones."""
AGREE = {torch.float64: 1e-8}
DIFFER = 5e-4
"""How far a compiled result may be from the function's own, as a share of its norm; or in each number, where that is
more, since a gradient may be all rounding. It is less in float64."""


def compilable(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function of programs and tensors, whose results nothing differentiates, as one that may be compiled.

    Its arguments are modules, tensors, and whatever else stays the same for all tensors and is hashable; its result is
    made of tensors. It must not depend on anything that is not among its arguments.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        compiling = _present.get()
        return function(*args, **kwargs) if compiling is None else compiling.call(function, args, kwargs)

    return called


@contextmanager
def compiling(how: str) -> Iterator["Compiling"]:
    """In here, `compilable` functions are compiled: `on` at their second call, `auto` when it pays, `off` never."""
    made = Compiling(how)
    token = _present.set(None if how == "off" else made)
    try:
        yield made
    finally:
        _present.reset(token)


def compiled_functions() -> tuple[str, ...]:
    """The functions that are compiled at present, by their names."""
    present = _present.get()
    return () if present is None else tuple(present.made)


def was_compiled() -> bool:
    """Was the last call of a `compilable` function one of a compiled graph?"""
    present = _present.get()
    return present is not None and present.last is not None and present.last.is_compiled


def settle(calls: int) -> None:
    """Compile all functions that were called so far, or none: by what so many calls of each would save.

    So functions whose times are compared are compiled alike. With 0 calls none is any more, whatever was settled.
    """
    if (present := _present.get()) is not None:
        present.settle(calls)


@dataclass
class Called:
    """One function at one set of programs and shapes.

    Args:
        count: calls so far.
        operations: floating-point operations of the products of a call.
        uses: calls of the graph so far.
        run: the graph, once there is one.
        plain: why there will be none.
        settled: is it to be compiled, where that was settled?
    """

    name: str
    count: int = 0
    operations: float = 0.0
    uses: int = 0
    run: Callable[[Sequence[Any]], Any] | None = None
    plain: str = ""
    settled: bool | None = None

    @property
    def is_compiled(self) -> bool:
        """Is the next call one of a graph?"""
        return self.run is not None and self.settled is not False


@dataclass
class Compiling:
    """What was called, and what was compiled.

    Args:
        how: `auto`, `on` or `off`.
    """

    how: str
    calls: dict[Any, Called] = field(default_factory=dict)
    last: Called | None = None

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function's result."""
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        shapes = tuple((x.shape, x.dtype, x.device) for x in tensors)
        others = tuple(None if isinstance(x, Tensor) else x for x in leaves)
        try:
            called = self.calls.setdefault((function, spec, others, shapes), Called(function.__qualname__))
        except TypeError:  # an argument that is not hashable, as an objective that is a dataclass
            return function(*args, **kwargs)
        called.count += 1
        self.last = called
        if called.plain or called.settled is False or self.how == "off":
            return function(*args, **kwargs)
        if called.run is None:
            if not self.pays(called):
                return self.counted(called, function, args, kwargs)
            self.make(called, function, leaves, spec)
        if called.run is None:
            return function(*args, **kwargs)
        called.uses += 1
        if called.uses & (called.uses - 1):  # else it is 1, 2, 4, 8, ...
            return called.run(leaves)
        return self.checked(called, lambda: function(*args, **kwargs), leaves)

    def pays(self, called: Called) -> bool:
        before = called.count - 1
        sure = called.settled or self.how == "on"
        return before > 0 and (sure or saved(2 * before, called.operations) >= WORTH)

    def settle(self, calls: int) -> None:
        """As the function `settle`."""
        open = [called for called in self.calls.values() if not calls or called.settled is None]
        pays = self.how == "on" or sum(saved(calls, c.operations) for c in open) >= WORTH * len(open)
        for called in open:
            called.settled = pays and calls > 0

    @property
    def made(self) -> list[str]:
        """The functions that were compiled."""
        return sorted({call.name for call in self.calls.values() if call.is_compiled})

    @property
    def refused(self) -> dict[str, str]:
        """Those that could not be, and why."""
        return {call.name: call.plain for call in self.calls.values() if call.plain}

    def counted(self, called: Called, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if called.count > 1:
            return function(*args, **kwargs)
        with Operations() as counter:
            found = function(*args, **kwargs)
        called.operations = counter.total
        return found

    def make(self, called: Called, function: Callable[..., Any], leaves: list[Any], spec: TreeSpec) -> None:
        from ppl_vae.graphs.static import Static  # the tracer takes half a second to import

        token = _present.set(None)
        try:
            called.run = Static(function, leaves, spec)
        except InputError as error:  # not captured, not compiled, or refused where tensors have no numbers
            called.plain = str(error)
        finally:
            _present.reset(token)

    def checked(self, called: Called, plain: Callable[[], Any], leaves: Sequence[Any]) -> Any:
        """The result of the graph if it is that of the function at the same noise.

        At the first use another result is the function's, and the graph is dropped.

        Raises:
            NumericalError: they differ later, so that results which were used already may be wrong.
        """
        assert called.run is not None
        token = _present.set(None)
        try:
            with torch.random.fork_rng():
                own = plain()
        finally:
            _present.reset(token)
        found = called.run(leaves)
        if all(map(_agree, tree_flatten(found)[0], tree_flatten(own)[0])):
            return found
        if called.uses > 1:
            raise NumericalError(
                f"the compiled {called.name} gave another result than the programs at its call {called.uses}, so that "
                "those before it may be wrong too. Does a statement do another thing at each call? Run again with "
                "--compile off"
            )
        called.plain, called.run = "the compiled result is another than that of the programs", None
        return own


def _agree(a: Tensor, b: Tensor) -> bool:
    """Do they differ by rounding alone? It may decide in one place of a thousand whether a number is finite."""
    if not b.is_floating_point():
        return torch.equal(a, b)
    finite = b.isfinite()
    unlike = torch.where(finite, ~a.isfinite(), (a != b) & ~(a.isnan() & b.isnan()))
    if unlike.double().mean() > 1e-3:
        return False
    both = finite & ~unlike
    a, b = a[both], b[both]
    return bool((a - b).norm() <= AGREE.get(b.dtype, DIFFER) * max(b.norm().item(), b.numel() ** 0.5))
