"""The gap explained: log p(x) − ELBO = approximation gap + amortization gap (Cremer, Li & Duvenaud 2018).

With q* the best q(z|x) of the guide's family for one row, found by optimization for this row alone:

    log p(x) − ELBO(q)  =  [log p(x) − ELBO(q*)]  +  [ELBO(q*) − ELBO(q)]
     KL(q(z|x) ‖ p(z|x))     approximation gap          amortization gap

The approximation gap is what the family can't do for this decoder, however the encoder is trained. The amortization gap
is what the encoder leaves undone within its family: a larger encoder, longer training, or some steps of optimization
for each row (`refined`) lessen it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.evidence.ascent import optimized, paired
from ppl_vae.evidence.local import Local, local
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches

STEPS, NUM_SAMPLES, BATCH_SIZE = 600, 1000, 100


@dataclass(frozen=True)
class GapParts:
    """The parts of the gap of each row, in nats: `(N,)` each, float64; standard errors are over draws.

    `approximation + amortization` is `log_px − elbo`. q and q* are scored with the same noise, which is not that of the
    optimization, so that the amortization gap has a smaller error than the two ELBOs.

    Where `converged` is false, q* is not the best of its family yet: the amortization gap is too small, and the
    approximation gap is too large by as much. Where `lower_bound` is true, log p(x) is known only as a lower bound, and
    the approximation gap is too small by what is missing; the amortization gap does not rest on log p(x).

    Args:
        elbo, elbo_se: of the encoder's q.
        best_elbo, best_elbo_se: of q*.
        amortization, amortization_se: ELBO(q*) − ELBO(q).
        approximation, approximation_se: log p(x) − ELBO(q*).
        converged: did the last cycle of steps no longer raise the ELBO of the row?
        lower_bound: is the approximation gap a lower bound, since log p(x) is one?
    """

    elbo: Tensor
    elbo_se: Tensor
    best_elbo: Tensor
    best_elbo_se: Tensor
    amortization: Tensor
    amortization_se: Tensor
    approximation: Tensor
    approximation_se: Tensor
    converged: Tensor
    lower_bound: Tensor


def gap_parts(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    log_px: Tensor,
    log_px_se: Tensor,
    *,
    reliable: Tensor | None = None,
    steps: int = STEPS,
    num_samples: int = NUM_SAMPLES,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int], object] | None = None,
) -> GapParts:
    """The approximation gap and the amortization gap of every row.

    Args:
        log_px, log_px_se: log p(x) of each row and its standard error, `(N,)`; draws of their own.
        reliable: where log p(x) is more than a lower bound, `(N,)`; by default everywhere.
        steps: of Adam, at most; a row that has converged takes no more.
        num_samples: draws of each row that judge convergence, and as many fresh ones that score q and q*.
        batch_size: rows at a time.
        advance: called with the number of rows that are done.

    Raises:
        InputError: the guide's family can't be freed of its encoder (`ppl_vae.evidence.local.local`), or `log_px` is
            not of the rows.

    Source: Cremer, Li & Duvenaud 2018.
    """
    fields = as_batch(rows)
    if len(log_px) != len(fields[0]) or len(log_px_se) != len(fields[0]):
        raise InputError(f"log_px is of {len(log_px)} rows, and there are {len(fields[0])}: give log p(x) of each row")
    found = []
    for start, best, converged in _optimized(model, guide, fields, steps, num_samples, batch_size, advance):
        before, after = paired(start, best, num_samples)
        found.append((*mean_and_se(before), *mean_and_se(after), mean_and_se(after - before)[1], converged))
    elbo, elbo_se, best_elbo, best_elbo_se, amortization_se, converged = map(torch.cat, zip(*found, strict=True))
    return GapParts(
        elbo=elbo,
        elbo_se=elbo_se,
        best_elbo=best_elbo,
        best_elbo_se=best_elbo_se,
        amortization=best_elbo - elbo,
        amortization_se=amortization_se,
        approximation=log_px.to(best_elbo) - best_elbo,
        approximation_se=(log_px_se.to(best_elbo).square() + best_elbo_se.square()).sqrt(),
        converged=converged,
        lower_bound=torch.zeros_like(converged) if reliable is None else ~reliable.to(converged),
    )


@dataclass(frozen=True)
class Refined:
    """The best q of the guide's family for each row: semi-amortized inference (Kim et al. 2018).

    Args:
        arrays: `<site>_mean` and `<site>_sd` of each latent site, `(N, ...)`.
        elbo, elbo_se: of this q, `(N,)`, in nats; the error is over draws.
        gain, gain_se: by how much the ELBO is above that of the encoder's answer, `(N,)`.
        converged: did the last cycle of steps no longer raise the ELBO of the row? `(N,)`
    """

    arrays: dict[str, Tensor]
    elbo: Tensor
    elbo_se: Tensor
    gain: Tensor
    gain_se: Tensor
    converged: Tensor


def refined(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    *,
    steps: int = STEPS,
    num_samples: int = NUM_SAMPLES,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int], object] | None = None,
) -> Refined:
    """The encoder's answer to every row, optimized for this row alone. Arguments and errors are those of `gap_parts`.

    A family without moments in closed form (a flow) gives those of `num_samples` draws.

    Source: Kim, Wiseman, Miller, Sontag & Rush 2018.
    """
    numbers, arrays = [], []
    for start, best, converged in _optimized(model, guide, as_batch(rows), steps, num_samples, batch_size, advance):
        before, after = paired(start, best, num_samples)
        gain, gain_se = mean_and_se(after - before)
        numbers.append((*mean_and_se(after), gain, gain_se, converged))
        arrays.append(best.moments(num_samples))
    names = arrays[0]
    return Refined(
        {name: torch.cat([a[name] for a in arrays]) for name in names}, *map(torch.cat, zip(*numbers, strict=True))
    )


def _optimized(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Batch,
    steps: int,
    num_samples: int,
    batch_size: int,
    advance: Callable[[int], object] | None,
) -> Iterator[tuple[Local, Local, Tensor]]:
    """The encoder's answer, the best q and whether it converged, `(B,)`, batch by batch."""
    at_least(1, steps=steps, batch_size=batch_size)
    at_least(2, num_samples=num_samples)
    for batch in batches(rows, batch_size):
        start = local(model, guide, batch)
        best, converged = optimized(start, steps, num_samples)
        yield start, best, converged
        if advance is not None:
            advance(len(batch[0]))


def mean_and_se(draws: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over K draws `(K, B)` and its standard error, `(B,)` each."""
    return draws.mean(0), draws.std(0) / len(draws) ** 0.5
