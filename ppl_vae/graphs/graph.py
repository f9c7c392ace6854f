"""A function of Pyro programs as one graph of tensor operations, in which no Pyro is left."""

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyro
import torch
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.library import Library

from ppl_vae.core.errors import InputError
from ppl_vae.graphs.standing_in import Place, places, standing_in
from ppl_vae.programs.state import attributes_kept, buffers_kept, without_numbers

DECOMPOSED = get_decompositions([torch.ops.aten.native_batch_norm])
"""Operators that are written as others in a graph: this one moves its buffers without saying so."""
_fakes = Library("aten", "IMPL")
_fakes.impl("_standard_gamma_grad", lambda alpha, draw: torch.empty_like(draw), "Meta")  # torch has none (2.13)
if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_standard_gamma", "Meta"):  # 2.10
    _fakes.impl("_standard_gamma", lambda alpha, generator=None: torch.empty_like(alpha), "Meta")


class NotCaptured(InputError):
    """A program that can't become a graph; the message names the statement, and says why."""


class OfTensors:
    """A function of programs as a function of tensors alone: `(trained, moving, kept, inputs)`, as flat lists.

    It returns what `body` returns, and each moving tensor as `body` leaves it.

    Args:
        programs: the modules whose parameters and buffers are inputs.
        body: `body(trained, *inputs)` gives tensors.
        trained: the parameters that it differentiates by.
    """

    def __init__(
        self, programs: Iterable[nn.Module], body: Callable[..., Iterable[Tensor]], trained: Iterable[Tensor] = ()
    ) -> None:
        self.programs, self.body, self.trained = list(programs), body, list(trained)
        self.where = places(self.programs)
        mine = set(map(id, self.trained))
        self.kept = [t for i, (place, *_) in self.where.items() if i not in mine and (t := place.tensor) is not None]
        self.moving: list[Tensor] = []

    @property
    def state(self) -> list[Tensor]:
        """All tensors that the programs hold, in the order in which the function takes them."""
        return [*self.trained, *self.moving, *self.kept]

    def look(self, inputs: Sequence[Tensor]) -> None:
        """Run the function once as it is, without a lasting effect, to find the buffers that it moves.

        Raises:
            NotCaptured: a program counts its calls, or keeps another number in an attribute, which a graph can't do.
            Exception: whatever the programs raise.
        """
        before, numbers = [(t, t.clone()) for t in self.kept], self._numbers()
        with torch.random.fork_rng(), buffers_kept(*self.programs), attributes_kept(*self.programs):
            self.body(self.trained, *inputs)
            if changed := [key for key, x in self._numbers().items() if numbers.get(key, x) != x]:
                kind, name = changed[0][0].__class__.__name__, changed[0][1]
                raise NotCaptured(f"the attribute {name!r} of {kind} changes with each call")
            moved = {id(t) for t, old in before if self._place(t).tensor is not t or not torch.equal(t, old)}
        self.moving = [t for t in self.kept if id(t) in moved]
        self.kept = [t for t in self.kept if id(t) not in moved]

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        n, m = len(self.trained), len(self.moving)
        state, inputs = tensors[: n + m + len(self.kept)], tensors[n + m + len(self.kept) :]
        moving = [t.clone() for t in state[n : n + m]]
        others = dict(zip(map(id, self.state), [*state[:n], *moving, *state[n + m :]], strict=True))
        with standing_in(self.where, others), pyro.get_param_store().scope():
            found = [*self.body(list(state[:n]), *inputs)]
            moved = [self._place(t).tensor for t in self.moving]
        return [t.detach() for t in (*found, *moved) if t is not None]

    def _numbers(self) -> dict[tuple[nn.Module, str], float]:
        """The Python numbers that the modules keep."""
        modules = {module for program in self.programs for module in program.modules()}
        return {(m, name): x for m in modules for name, x in vars(m).items() if isinstance(x, int | float)}

    def _place(self, tensor: Tensor) -> Place:
        return self.where[id(tensor)][0]


@dataclass(frozen=True)
class Graph:
    """An `OfTensors` as a graph.

    Args:
        module: the graph; it takes and gives flat lists of tensors.
        inputs: what it was traced with: tensors without numbers, whose number of rows is a symbol if it is free.
        rows: the only number of rows that it is for, or None.
        env: what was assumed of a free number of rows.
    """

    module: fx.GraphModule
    inputs: list[Tensor]
    rows: int | None
    env: ShapeEnv

    def fits(self, rows: int) -> bool:
        """Is the graph right for a batch of so many rows?"""
        if self.rows is not None:
            return rows == self.rows
        symbols = {symbol for guard in self.env.guards for symbol in guard.expr.free_symbols}
        return rows > 1 and all(guard.expr.xreplace(dict.fromkeys(symbols, rows)) == True for guard in self.env.guards)  # noqa: E712

    def assumed(self) -> list[tuple[str, int]]:
        """File and line of what assumed something of the number of rows, such as that it is one number."""
        places = [guard.sloc.framework_loc for guard in self.env.guards if guard.expr.free_symbols]
        return [(p.filename, p.lineno) for p in places if isinstance(p, traceback.FrameSummary) and p.lineno]


def trace(function: OfTensors, tensors: Sequence[Tensor], *, free: bool = True) -> Graph:
    """The graph of a function for inputs like these.

    Args:
        tensors: the inputs; two rows or more, if their number is to be free.
        free: let the number of rows be free, unless the program makes a number of it, as `len(x)` does.

    Raises:
        NotCaptured: a statement needs the numbers in a tensor, or is no operation on tensors.
    """
    env = ShapeEnv()
    mode = FakeTensorMode(shape_env=env, allow_non_fake_inputs=True)
    mode.cache_enabled = False  # most operations come once
    rows = DimDynamic.DUCK if free else DimDynamic.STATIC

    def fake(tensor: Tensor, first: DimDynamic = DimDynamic.STATIC) -> Tensor:
        sizes = [first, *[DimDynamic.STATIC] * tensor.dim()][: tensor.dim()]
        return mode.from_tensor(tensor.detach(), symbolic_context=StatelessSymbolicContext(sizes))

    inputs = [fake(t) for t in function.state] + [fake(t, rows) for t in tensors]
    for t in inputs[: len(function.trained)]:
        t.requires_grad_()
    no_validation = pyro.validation_enabled(False)
    try:
        with (
            mode,
            enable_python_dispatcher(),
            torch.random.fork_rng(),
            without_numbers(),
            no_validation,
            attributes_kept(*function.programs),
        ):
            module = make_fx(function, DECOMPOSED)(*inputs)  # type: ignore[arg-type]
    except InputError:
        raise
    except Exception as error:
        raise NotCaptured(f"{_statement(error)}: {_reason(error)}") from error
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.view.default:  # an operator may lay out memory otherwise than its fake says
            node.target = torch.ops.aten.reshape.default
    module.graph.eliminate_dead_code()
    module.recompile()
    size = inputs[len(function.state)].shape[0]
    fixed = size if isinstance(size, int) else size.node.maybe_as_int()
    return Graph(module, [t.detach() for t in inputs], fixed, env)


def _statement(error: BaseException) -> str:
    """The statement of the innermost frame that is neither torch's nor Pyro's."""
    libraries = tuple(str(Path(module.__file__ or "").parent) for module in (torch, pyro))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(libraries)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}, {frames[-1].line}" if frames else "the pass"


def _reason(error: Exception) -> str:
    if isinstance(error, GuardOnDataDependentSymNode | DataDependentOutputException):
        return "this needs the numbers in a tensor, which are not the same in each step"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
