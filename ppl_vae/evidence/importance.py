"""log p(x) by importance sampling from the guide, streamed over draws and over rows."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.core.errors import at_least
from ppl_vae.core.memory import check_memory
from ppl_vae.evidence.khat import ess, khat, reliable
from ppl_vae.graphs.calls import compilable
from ppl_vae.programs import terms
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches, log_weight

CHUNK = 2**22
"""So many numbers of data are scored at a time, rows times draws times the size of a row."""
FEWER = "ask for fewer draws"


class Weighted(NamedTuple):
    """What K weights p(x, z_k)/q(z_k|x), z_k ~ q(z|x), say of each of N rows.

    Args:
        log_px: log (1/K) Σ_k w_k: in expectation below log p(x), and consistent as K grows, `(N,)`.
        se: its standard error over draws by the delta method, √(Σ_k (w_k/w̄ − 1)²/(K(K − 1))), `(N,)`.
        elbo: the mean of log w_k, an unbiased estimate of the ELBO, `(N,)`.
        elbo_se: its standard error over draws, `(N,)`.
        khat: the Pareto k-hat of the weights; −∞ where they are constant, so that nothing is lost, `(N,)`.
        ess: 1/Σ_k w̃_k², how many of the K draws count, `(N,)`.
    """

    log_px: Tensor
    se: Tensor
    elbo: Tensor
    elbo_se: Tensor
    khat: Tensor
    ess: Tensor

    @property
    def reliable(self) -> Tensor:
        """Does the standard error of log p(x) hold? k-hat below 0.5 and an ESS of 100, or constant weights, `(N,)`."""
        return reliable(self.khat, self.ess) | (self.khat == -math.inf)


@torch.no_grad()
def importance(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    num_samples: int = 1000,
    batch_size: int = 100,
    advance: Callable[[int], object] = lambda rows: None,
) -> Weighted:
    """log p(x) ≈ log (1/K) Σ_k p(x, z_k)/q(z_k|x), z_k ~ q(z|x), of each row.

    In memory at a time: one chunk of draws of one batch, and the K log weights of the rows of that batch.

    Args:
        rows: N rows, one tensor per field.
        num_samples: K, 2 at least.
        batch_size: rows at a time.
        advance: called with the number of rows that are done.

    Raises:
        InputError: K is below 2, or there is no memory for the weights.

    Source: Burda, Grosse & Salakhutdinov 2016 (the bound); Vehtari et al. 2024 (k-hat).
    """
    at_least(2, num_samples=num_samples)
    rows = as_batch(rows)
    at_once = min(batch_size, len(rows[0]))
    check_memory(
        16 * num_samples * at_once, f"the weights of {num_samples} draws for each of {at_once} rows take", FEWER
    )
    found = []
    for batch in batches(rows, batch_size):
        log_w = torch.cat([log_weights(model, guide, batch, k) for k in chunks(batch, num_samples)])
        found.append(summary(log_w))
        advance(log_w.shape[1])
    return gather(found)


@compilable
def log_weights(model: ProgramLike, guide: ProgramLike, batch: Batch, num_samples: int) -> Tensor:
    """log p(x, z_k) − log q(z_k|x) at K draws of the guide, `(K, B)`."""
    return log_weight(terms(model, guide, batch, num_samples))


def chunks(batch: Batch, num_samples: int) -> Iterator[int]:
    """How many of the K draws are made at a time, so that a chunk is not much larger than `CHUNK` numbers."""
    size = max(1, sum(x.numel() for x in batch if x.is_floating_point()))
    at_a_time = max(1, min(num_samples, CHUNK // size))
    for start in range(0, num_samples, at_a_time):
        yield min(at_a_time, num_samples - start)


def summary(log_w: Tensor) -> Weighted:
    """What the log weights `(K, B)` of one batch say."""
    log_w = log_w.double()
    K = len(log_w)
    k, count = khat(log_w), ess(log_w)
    se = ((K / count - 1) / (K - 1)).clamp(min=0).sqrt()
    log_px = log_w.logsumexp(0) - math.log(K)
    return Weighted(log_px, se, log_w.mean(0), log_w.std(0) / K**0.5, k, count)


def gather(found: Iterable[Weighted]) -> Weighted:
    """The batches as one."""
    return Weighted(*map(torch.cat, zip(*found, strict=True)))
