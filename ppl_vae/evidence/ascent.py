"""The ELBO of a local q raised, row by row, until it no longer rises."""

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_vae.evidence.local import Local
from ppl_vae.graphs.calls import compilable

CYCLE = 100
"""Steps until the learning rate has come down to 0, and convergence is judged."""

LR = 0.1
DRAWS = 8
"""Draws of each row in one step."""

RESOLUTION = 0.01
"""Nats: a row whose ELBO rises by less than this in a cycle has converged."""

AT_ONCE = 4000
"""Draws of all rows together in one pass without gradients: more are not faster, and take more memory."""


def optimized(start: Local, steps: int, num_samples: int) -> tuple[Local, Tensor]:
    """The best q of the family for each row, and whether the row has converged, `(B,)`.

    Adam with fresh draws in every step, in cycles. In a cycle the learning rate falls linearly to 0, so that the noise
    averages out; the next cycle begins with the full rate, so that a row that is not there yet can move on. A cycle's
    answer is compared with the one before it at common fresh noise, and kept unless it is worse by 2 standard errors.
    A row has converged if a whole cycle raises its ELBO by less than 2 standard errors, or by less than `RESOLUTION`.
    Then it gets one more cycle, of small steps with many draws, which takes away the noise of the steps before.

    Args:
        steps: at most, without those of the last cycle.
        num_samples: draws of the comparison; a 32nd of them in each step of the last cycle.
    """
    free = [site.free.clone() for site in start.sites.values()]
    converged = torch.zeros(len(free[0]), dtype=torch.bool, device=free[0].device)

    def improve(rows: Tensor, length: int, lr: float, draws: int) -> tuple[Tensor, Tensor]:
        """The rise of the ELBO of the rows in one cycle, and its standard error."""
        before = start.at(free).rows(rows)
        after = _cycle(before, length, lr, draws)
        old, new = paired(before, after, num_samples)
        rise, se = (new - old).mean(0), (new - old).std(0) / num_samples**0.5
        kept = rise >= -2 * se
        for x, site in zip(free, after.sites.values(), strict=True):
            x[rows[kept]] = site.free[kept]
        return rise, se

    for taken in range(0, steps, CYCLE):
        (rows,) = (~converged).nonzero(as_tuple=True)
        if not len(rows):
            break
        length = min(CYCLE, steps - taken)
        rise, se = improve(rows, length, LR, DRAWS)
        converged[rows] = (rise <= torch.clamp(2 * se, min=RESOLUTION)) & (length == CYCLE)
    (rows,) = converged.nonzero(as_tuple=True)
    if len(rows):
        improve(rows, CYCLE, LR / 5, max(DRAWS, num_samples // 32))
    return start.at(free), converged


def _cycle(q: Local, length: int, lr: float, draws: int) -> Local:
    free = [site.free for site in q.sites.values()]
    return q.at(climbed(free, lambda free: _gradients(q.at(free), draws), length, lr))


@compilable
def _gradients(q: Local, draws: int) -> list[Tensor]:
    """Of the ELBO by the free numbers of each site, along the path of the draws."""
    with torch.enable_grad():
        free = [site.free.detach().requires_grad_() for site in q.sites.values()]
        return list(torch.autograd.grad(q.at(free).log_weight(draws, path=True).mean(0).sum(), free))


def climbed(
    free: list[Tensor], gradients: Callable[[list[Tensor]], list[Tensor]], length: int, lr: float
) -> list[Tensor]:
    """`length` steps of Adam that raise the mean of log p(x, z) − log q(z|x); the learning rate falls linearly to 0.

    Args:
        free: the numbers of q, each row's its own, `(B, P)` each.
        gradients: of the mean, at fresh draws of q, by such numbers.
    """
    free = [x.clone().requires_grad_() for x in free]
    optimizer = torch.optim.Adam(free, lr=lr, betas=(0.9, 0.99), maximize=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / length)
    for _ in range(length):
        for x, gradient in zip(free, gradients(free), strict=True):
            x.grad = gradient
        optimizer.step()
        schedule.step()
    return [x.detach() for x in free]


@torch.no_grad()
def paired(a: Local, b: Local, num_samples: int) -> tuple[Tensor, Tensor]:
    """log p(x, z) − log q(z|x) of two q of one family at the same noise, `(K, B)` each, float64."""
    seed = int(torch.randint(2**31, ()))
    found = []
    for q in (a, b):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            most = max(1, AT_ONCE // len(q.batch[0]))
            parts = [_log_weight(q, min(most, num_samples - k)) for k in range(0, num_samples, most)]
        found.append(torch.cat(parts).double())
    return found[0], found[1]


@compilable
def _log_weight(q: Local, num_samples: int) -> Tensor:
    return q.log_weight(num_samples)
