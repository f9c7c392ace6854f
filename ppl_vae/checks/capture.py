"""The pair can be captured as tensor operations with a free batch size, which compilation needs."""

import itertools
import linecache
from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_vae.checks.lines import place, raised
from ppl_vae.checks.subject import Finding, Subject
from ppl_vae.programs import parameters, terms
from ppl_vae.programs.scores import Batch


def captures(s: Subject) -> Iterator[Finding]:
    """No statement of the programs needs the value of a tensor, or makes the batch size a constant."""
    from ppl_vae.graphs.graph import NotCaptured, OfTensors, trace  # this takes a second, so it is not at the top

    @torch.no_grad()
    def log_probs(_: list[Tensor], *batch: Tensor) -> list[Tensor]:
        t = terms(s.pair.model, s.pair.guide, batch)
        return [*t.log_q.values(), *t.log_prior.values(), *t.log_lik.values()]

    try:
        trained = parameters(s.pair.model, s.pair.guide, s.pair.borrower).values()
        graph = trace(OfTensors([s.pair.model, s.pair.guide], log_probs, trained), _batch(s))
    except NotCaptured as error:
        yield _prevented(s, error.__cause__ or error)
        return
    except Exception as error:
        yield _prevented(s, error)
        return
    if graph.rows is not None:
        where = place(graph.assumed(), set(s.files.values()))
        yield Finding(
            "warning",
            f"the batch size becomes a constant when the pair is captured{_statement(where)}, but it trains eagerly: "
            "write x.shape[0], not len(x), and do not convert it by int() or compare it",
            where=where,
        )


def _batch(s: Subject) -> Batch:
    """A batch whose number of rows is no other dimension's size, since the capture would take equal sizes for one."""
    tensors = [*s.probe, *s.pair.model.parameters(), *s.pair.guide.parameters()]
    sizes = {n for x in tensors for n in x.shape}
    rows = next(n for n in itertools.count(13, step=2) if n not in sizes)
    return tuple(x[torch.arange(rows, device=x.device) % len(x)] for x in s.probe)


def _prevented(s: Subject, error: BaseException) -> Finding:
    where = raised(error, set(s.files.values()))
    lines = [line for line in str(error).splitlines() if line.strip()]
    why = f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
    if "DataDependent" in type(error).__name__:
        why = "it needs the value of a tensor, as if, int() and .item() do"
    return Finding("warning", f"the pair can't be captured{_statement(where)}, but trains eagerly: {why}", where=where)


def _statement(where: str | None) -> str:
    if where is None:
        return ""
    path, _, line = where.rpartition(":")
    linecache.checkcache(path)  # the file may have been edited
    return f" (`{linecache.getline(path, int(line)).strip()}`)"
