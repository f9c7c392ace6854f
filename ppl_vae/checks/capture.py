"""The pair can be captured, as tensor operations with a free batch size: what compiling it needs."""

import linecache
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ppl_vae.checks.subject import Finding, Subject
from ppl_vae.programs import terms
from ppl_vae.programs.terms import Batch


def captures(s: Subject) -> Iterator[Finding]:
    """Tracing meets no statement that needs a tensor's value or makes the batch size a constant."""
    from torch.fx.experimental.proxy_tensor import make_fx  # a second: here, where it is asked for

    @torch.no_grad()
    def log_probs(*batch: Tensor) -> list[Tensor]:
        t = terms(s.pair.model, s.pair.guide, batch)
        return [*t.log_q.values(), *t.log_prior.values(), *t.log_lik.values()]

    modules = {m: dict(vars(m)) for program in (s.pair.model, s.pair.guide) for m in program.modules()}
    try:
        graph = make_fx(log_probs, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*_batch(s))
    except Exception as error:
        yield _prevented(s, error)
        return
    finally:  # an attribute that a pass sets would be a fake tensor
        for module, attributes in modules.items():
            vars(module).clear()
            vars(module).update(attributes)
    if where := _constant(graph):
        yield Finding(
            "warning",
            f"the batch size becomes a constant when the pair is captured{_statement(where)}, but it trains eagerly: "
            "write x.shape[0], not len(x), and no int() or comparison of it",
            where=where,
        )


def _batch(s: Subject) -> Batch:
    """As many rows as no other dimension has: equal sizes would be taken for one."""
    tensors = [*s.probe, *s.pair.model.parameters(), *s.pair.guide.parameters()]
    sizes = {n for x in tensors for n in x.shape}
    rows = next(n for n in (13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53) if n not in sizes)
    return tuple(x[torch.arange(rows, device=x.device) % len(x)] for x in s.probe)


def _prevented(s: Subject, error: Exception) -> Finding:
    where = s.raised(error)
    why = next((line for line in str(error).splitlines() if line.strip()), "it needs the value of a tensor")
    return Finding(
        "warning",
        f"the pair can't be captured{_statement(where)}, but trains eagerly: {type(error).__name__}: {why.rstrip('.')}",
        where=where,
    )


def _constant(graph: Any) -> str | None:
    """The statement that made a dimension of the batch a constant, if one did: its file and line."""
    for node in graph.graph.find_nodes(op="placeholder"):
        size = node.meta["val"].shape[0]
        if isinstance(size, int) or size.node.expr.is_number:
            symbol = None if isinstance(size, int) else size.node._expr
            for guard in graph.shape_env.guards:
                if symbol in guard.expr.free_symbols or symbol is None:
                    place = guard.sloc.framework_loc
                    return f"{place.filename}:{place.lineno}"
    return None


def _statement(where: str | None) -> str:
    if where is None:
        return ""
    path, _, line = where.rpartition(":")
    return f" (`{linecache.getline(path, int(line)).strip()}`)"
