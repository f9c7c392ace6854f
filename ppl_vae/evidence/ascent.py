"""The ELBO of a local q raised, row by row, until it no longer rises."""

import torch
from torch import Tensor

from ppl_vae.evidence.local import Local

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
    answer is compared with the one before it at common fresh noise. It is kept if its ELBO is higher. A row has
    converged if a whole cycle raises its ELBO by less than 2 standard errors, or by less than `RESOLUTION`.

    Args:
        steps: at most.
        num_samples: draws of the comparison.
    """
    free = [site.free.clone() for site in start.sites.values()]
    converged = torch.zeros(len(free[0]), dtype=torch.bool, device=free[0].device)
    for taken in range(0, steps, CYCLE):
        (index,) = (~converged).nonzero(as_tuple=True)
        if not len(index):
            break
        before = start.at(free).rows(index)
        length = min(CYCLE, steps - taken)
        after = _cycle(before, length)
        old, new = paired(before, after, num_samples)
        rise, se = (new - old).mean(0), (new - old).std(0) / num_samples**0.5
        better = rise > 0
        for x, site in zip(free, after.sites.values(), strict=True):
            x[index[better]] = site.free[better]
        converged[index] = (rise <= torch.clamp(2 * se, min=RESOLUTION)) & (length == CYCLE)
    return start.at(free), converged


def _cycle(q: Local, length: int) -> Local:
    free = [site.free.clone().requires_grad_() for site in q.sites.values()]
    optimizer = torch.optim.Adam(free, lr=LR, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / length)
    for _ in range(length):
        loss = -q.at(free).log_weight(DRAWS, path=True).mean(0).sum()
        for x, gradient in zip(free, torch.autograd.grad(loss, free), strict=True):
            x.grad = gradient
        optimizer.step()
        schedule.step()
    return q.at([x.detach() for x in free])


@torch.no_grad()
def paired(a: Local, b: Local, num_samples: int) -> tuple[Tensor, Tensor]:
    """log p(x, z) − log q(z|x) of two q of one family at the same noise, `(K, B)` each, float64."""
    seed = int(torch.randint(2**31, ()))
    found = []
    for q in (a, b):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            most = max(1, AT_ONCE // len(q.batch[0]))
            parts = [q.log_weight(min(most, num_samples - k)) for k in range(0, num_samples, most)]
        found.append(torch.cat(parts).double())
    return found[0], found[1]
