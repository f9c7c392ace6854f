"""Matrix products: torch's own, or those of oneDNN, whichever is faster on this machine.

Torch sends `aten.mm` to MKL, which on some processors leaves half of the vector width unused; oneDNN does not. Inductor
keeps to torch's own. So an operator of this package stands in the graph in its place.
"""

import statistics
import time
from collections.abc import Callable
from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, fx
from torch.library import Library

Products: TypeAlias = Literal["mm", "onednn"]
aten = torch.ops.aten
ROUNDS, REPEATS = 7, 5
FASTER = 0.95
"""oneDNN is taken where all products of a graph need less than so much of the time of torch's own."""

LEAST = 2**20
"""Multiplications of a product that oneDNN takes, at least: a call of it costs 13 µs, and one of torch's own 1 µs."""

_library = Library("ppl_vae", "DEF")
_library.define("product(Tensor? bias, Tensor a, Tensor b) -> Tensor")


def _by_onednn(bias: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """a b + bias, of `(n, k)`, `(k, m)` and `(m,)` to `(n, m)`."""
    return torch.ops.mkldnn._linear_pointwise.default(a, b.t(), bias, "none", [], "")


_library.impl("product", _by_onednn, "CPU")
_library.impl("product", lambda bias, a, b: a.new_empty(a.shape[0], b.shape[1]), "Meta")


def _by_torch(bias: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    return a @ b if bias is None else torch.addmm(bias, a, b)


WAYS: dict[str, Callable[[Tensor | None, Tensor, Tensor], Tensor]] = {"mm": _by_torch, "onednn": _by_onednn}


def products(graph: fx.Graph, rows: int) -> list[fx.Node]:
    """The matrix products of a graph that oneDNN can take: those of float32 on the CPU that are not small.

    Args:
        rows: the size of a batch, where the graph leaves it free.
    """
    if not torch.backends.mkldnn.is_available():
        return []
    known = (aten.mm.default, aten.addmm.default)
    return [node for node in graph.nodes if node.target in known and _fits(node, rows)]


def _fits(node: fx.Node, rows: int) -> bool:
    *bias, a, b = (x.meta["val"] for x in node.args if isinstance(x, fx.Node))
    if any(x.dim() != 1 for x in bias) or node.kwargs or a.dtype != torch.float32 or a.device.type != "cpu":
        return False
    return prod(_number(n, rows) for n in (*a.shape, b.shape[1])) >= LEAST


def by_onednn(module: fx.GraphModule, rows: int) -> None:
    """Put oneDNN's products into a graph in the place of torch's own, of those that are not small."""
    for node in products(module.graph, rows):
        *bias, a, b = (x for x in node.args if isinstance(x, fx.Node))
        with module.graph.inserting_before(node):
            if not a.meta["val"].is_contiguous():  # oneDNN would copy it; Inductor makes it by the way
                a = _copied(module.graph, a)
            other = module.graph.call_function(torch.ops.ppl_vae.product.default, (bias[0] if bias else None, a, b))
        other.meta = dict(node.meta)
        node.replace_all_uses_with(other)
        module.graph.erase_node(node)
    module.recompile()


def _copied(graph: fx.Graph, node: fx.Node) -> fx.Node:
    copy = graph.call_function(aten.clone.default, (node,), {"memory_format": torch.contiguous_format})
    copy.meta = dict(node.meta) | {"val": node.meta["val"].contiguous()}
    return copy


def faster(module: fx.GraphModule, rows: int) -> Products:
    """Whose products are faster, for all of a graph together."""
    taken = seconds(module, rows)
    return "onednn" if taken["onednn"] < FASTER * taken["mm"] else "mm"


def seconds(module: fx.GraphModule, rows: int) -> dict[str, float]:
    """How long all products of a graph take, by torch's own and by oneDNN: `mm` and `onednn`.

    Each shape is timed both ways in turn, on random numbers in the memory layout that the graph has.

    Args:
        rows: the size of a batch, where the graph leaves it free.
    """
    total = dict.fromkeys(WAYS, 0.0)
    for node in products(module.graph, rows):
        *bias, a, b = (_laid_out(x, rows) for x in node.args if isinstance(x, fx.Node))
        taken: dict[str, list[float]] = {name: [] for name in WAYS}
        with torch.no_grad():
            for name in [*WAYS] * ROUNDS:
                start = time.perf_counter()
                for _ in range(REPEATS):
                    WAYS[name](bias[0] if bias else None, a, b)
                taken[name].append((time.perf_counter() - start) / REPEATS)
        for name, times in taken.items():
            total[name] += statistics.median(times[1:])
    return total


def _laid_out(node: fx.Node, rows: int) -> Tensor:
    """Random numbers in the shape and the memory layout of what a node gives."""
    value = node.meta["val"]
    shape, stride = ([_number(n, rows) for n in sizes] for sizes in (value.shape, value.stride()))
    extent = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(extent, generator=generator).as_strided(shape, stride)


def _number(size: int | torch.SymInt, rows: int) -> int:
    """A size, in which the symbol for the number of rows is replaced by a number."""
    if isinstance(size, int):
        return size
    expr = size.node.expr
    return int(expr.xreplace(dict.fromkeys(expr.free_symbols, rows)))
