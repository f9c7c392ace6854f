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
from torch.nn.functional import pad

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.evidence.ascent import climbed
from ppl_vae.evidence.importance import Weighted, chunks, gather, summary
from ppl_vae.evidence.latents import Density, Latents
from ppl_vae.evidence.local import full_normal
from ppl_vae.graphs.calls import compilable
from ppl_vae.programs.scores import Batch, ProgramLike, Values, as_batch, batches

DIAGONAL, FULL = (100, 0.2), (200, 0.05)
"""Steps and learning rate, first of mean and standard deviations alone, which may have a long way, then of all."""
DRAWS = 8
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
                parts.append(drawn(latents, t, k)[1])
            found.append(summary(torch.cat(parts)))
            advance(latents.rows)
    return gather(found)


def drawn(latents: Latents, t: MultivariateStudentT, num_samples: int) -> tuple[Tensor, Tensor]:
    """K draws u ~ t, `(K, B, D)`, and log p(x, u) − log t(u), `(K, B)`: −∞ where the first is not defined."""
    u = t.sample((num_samples,))
    return u, (_log_joint(latents.density(together=True), u) - t.log_prob(u)).nan_to_num(
        nan=-torch.inf, posinf=torch.inf
    )


def values_drawn(latents: Latents, t: MultivariateStudentT, num_samples: int) -> tuple[Values, Tensor]:
    """`drawn`, as values that `score` takes; one without weight gives its place to the draw with the most."""
    u, log_w = drawn(latents, t, num_samples)
    best = u.gather(0, log_w.argmax(0, keepdim=True).unsqueeze(-1).expand_as(u[:1]))
    return latents.values(torch.where((log_w > -torch.inf).unsqueeze(-1), u, best))[0], log_w


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
    start = MultivariateNormal(u.mean(0), scale_tril=u.std(0).clamp(min=LEAST_SCALE).diag_embed())
    diagonal = _climbed(latents, start, 2 * D, *DIAGONAL)
    q = _climbed(latents, diagonal, 2 * D + D * (D - 1) // 2, *FULL)
    return MultivariateStudentT(q.loc.new_tensor(max(LEAST_DEGREES, D / 2)), q.loc, q.scale_tril)


def _climbed(latents: Latents, q: MultivariateNormal, width: int, steps: int, lr: float) -> MultivariateNormal:
    """q after steps that raise its ELBO, in its own units; as it was in rows where that is not finite.

    Args:
        width: how many of the numbers of `full_normal` are free, the first ones: 2D leave the correlations as they are.
    """
    density = latents.density(together=True)

    def gradients(free: list[Tensor]) -> list[Tensor]:
        return [_gradient(density, free[0], q.loc, q.scale_tril)]

    (free,) = climbed([q.loc.new_zeros(latents.rows, width)], gradients, steps, lr)
    return _moved(torch.where(free.isfinite().all(-1, keepdim=True), free, 0.0), q.loc, q.scale_tril)


@compilable
def _log_joint(density: Density, u: Tensor) -> Tensor:
    return density(u)[0]


@compilable
def _gradient(density: Density, free: Tensor, loc: Tensor, scale_tril: Tensor) -> Tensor:
    """Of the mean of log p(x, u) − log q(u) at draws of q, by the free numbers of q: not by those of its density."""
    with torch.enable_grad():
        free = free.detach().requires_grad_()
        u = _moved(free, loc, scale_tril).rsample((DRAWS,))
        log_weight = density(u)[0] - _moved(free.detach(), loc, scale_tril).log_prob(u)
        return torch.autograd.grad(log_weight.mean(0).sum(), free)[0]


def _moved(free: Tensor, loc: Tensor, scale_tril: Tensor) -> MultivariateNormal:
    """N(loc, scale_tril scale_trilᵀ) moved by `full_normal`'s first numbers; the others, of correlations, are 0."""
    D = loc.shape[-1]
    return full_normal(pad(free, (0, 2 * D + D * (D - 1) // 2 - free.shape[-1])), loc, scale_tril)


def believed(found: Weighted, guide: Weighted) -> Weighted:
    """k-hat is ∞ where a fitted proposal has missed a mode, as the guide's draws tell: they found more than it did.

    Where most rows are not reliable, those that pass may do so by luck, with one mode of several: then no row is.
    """
    more = torch.stack([guide.elbo - found.log_px, guide.log_px - found.log_px])
    se = torch.stack([guide.elbo_se, guide.se]).square().add(found.se.square()).sqrt()
    missed = (more > ERRORS * se).any(0)
    good = found.reliable & ~missed
    return found._replace(khat=found.khat.where(~missed & (good.double().mean() > MOST_ROWS), torch.inf))
