"""log p(x) by importance sampling from a Student t that is fitted to each row's own posterior.

A guide is trained to be near p(z|x) on the whole, and is narrower than it as a rule: then a few draws have most of the
weight. Here every row gets a proposal of its own. A normal with any covariance, in the coordinates of `Latents`, starts
at the guide's mean and standard deviation, and is optimized for the ELBO of this row alone; a Student t with its
location and scale replaces it, since its tails are heavier than those of most posteriors. Then its draws are fresh, so
that the mean weight has no bias for p(x), however good the fit is; k-hat and the effective sample size tell it.
"""

from collections.abc import Callable

import pyro
import torch
from pyro.distributions import MultivariateNormal, MultivariateStudentT
from torch import Tensor

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.evidence.ascent import climbed
from ppl_vae.evidence.importance import Weighted, chunks, gather, summary
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.local import full_normal
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch, batches

CYCLES, STEPS, DRAWS = 4, 50, 8
LR = 0.1
SPREAD_DRAWS = 200
LEAST_DEGREES = 5.0
ERRORS = 5
MOST_ROWS = 0.5
LEAST_SCALE = 1e-6
MOST_DIMENSIONS = 256
"""The scale of a row has D²/2 free numbers."""


@torch.no_grad()
def fitted(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    num_samples: int = 1000,
    *,
    batch_size: int = 50,
    advance: Callable[[int], object] = lambda rows: None,
) -> Weighted:
    """log p(x) ≈ log (1/K) Σ_k p(x, u_k)/t(u_k), u_k ~ t, of each row; `elbo` is that of t.

    Args:
        rows: N rows.
        num_samples: K, 2 at least.
        batch_size: rows at a time.
        advance: called with the number of rows that are done.

    Raises:
        InputError: a latent without coordinates (discrete), a masked one, an auxiliary draw in the guide, or more than
            256 latent dimensions.

    Source: Owen 2013, Monte Carlo theory, methods and examples, ch. 9 (the t in place of the normal).
    """
    at_least(2, num_samples=num_samples)
    found = []
    with pyro.validation_enabled(False):  # a draw may go where a density is not defined, and then has no weight
        for batch in batches(as_batch(rows), batch_size):
            latents = Latents(model, guide, batch)
            t = proposal(latents)
            parts = []
            for k in chunks(batch, num_samples):
                u = t.sample((k,))
                parts.append((latents.log_joint(u) - t.log_prob(u)).nan_to_num(nan=-torch.inf, posinf=torch.inf))
            found.append(summary(torch.cat(parts)))
            advance(latents.rows)
    return gather(found)


def proposal(latents: Latents) -> MultivariateStudentT:
    """The Student t of each row, of batch shape `(B,)`; where the fit is not finite, that of the guide's moments.

    It has D/2 degrees of freedom, 5 at least: its tails stay heavier than those of a normal, and in many dimensions it
    does not spend most of its draws there.
    """
    if latents.size > MOST_DIMENSIONS:
        raise InputError(
            f"the latents have {latents.size} dimensions, and a proposal with any covariance is fitted to "
            f"{MOST_DIMENSIONS} at most: name the method annealed or importance"
        )
    u, D = latents.draw_q(SPREAD_DRAWS), latents.size
    loc, L = u.mean(0), u.std(0).clamp(min=LEAST_SCALE).diag_embed()
    for _ in range(CYCLES):
        q = _climbed(latents, loc, L, LR)
        loc, L = q.loc, q.scale_tril  # the units of the next cycle
    return MultivariateStudentT(loc.new_tensor(max(LEAST_DEGREES, D / 2)), loc, L)


def _climbed(latents: Latents, loc: Tensor, L: Tensor, lr: float) -> MultivariateNormal:
    """N(loc, LLᵀ) after some steps that raise its ELBO; as it was in rows where that is not finite."""

    def log_weight(free: list[Tensor]) -> Tensor:
        u = full_normal(free[0], loc, L).rsample((DRAWS,))
        return latents.log_joint(u) - full_normal(free[0].detach(), loc, L).log_prob(u)

    D = latents.size
    (free,) = climbed([loc.new_zeros(len(loc), D + D * (D + 1) // 2)], log_weight, STEPS, lr)
    return full_normal(torch.where(free.isfinite().all(-1, keepdim=True), free, 0.0), loc, L)


def believed(found: Weighted, guide: Weighted) -> Weighted:
    """k-hat is ∞ where a fitted proposal has missed a mode, as the guide's draws tell: they found more than it did.

    Where most rows are not reliable, those that pass may do so by luck, with one mode of several: then no row is.
    """
    more = torch.stack([guide.elbo - found.log_px, guide.log_px - found.log_px])
    se = torch.stack([guide.elbo_se, guide.se]).square().add(found.se.square()).sqrt()
    missed = (more > ERRORS * se).any(0)
    good = found.reliable & ~missed
    return found._replace(khat=found.khat.where(~missed & (good.double().mean() > MOST_ROWS), torch.inf))
