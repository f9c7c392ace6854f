"""Importance sampling where the guide is bad: from a Student-t that is fitted to each row's own posterior."""

import torch
from pyro.distributions import MultivariateStudentT
from torch import Tensor

from ppl_vae.core.errors import at_least
from ppl_vae.evidence.khat import ess
from ppl_vae.evidence.latents import Latents
from ppl_vae.programs.scores import Batch, ProgramLike, Values

DF = 5.0  # of the Student-t: its tails are heavier than those of a posterior that is nearly normal
POWERS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.0)
"""Weights are flattened by the first of these that leaves enough of them to count."""


@torch.no_grad()
def adapted(
    model: ProgramLike, guide: ProgramLike, rows: Tensor | Batch, num_samples: int = 4000, rounds: int = 3
) -> tuple[Values, Tensor]:
    """Draws of z, and the logarithms of their weights w_k ∝ p(x, z_k)/t(z_k), `(K, B)`, that stand for p(z|x).

    In the coordinates u of `Latents`, `rounds` times: a Student-t with 5 degrees of freedom takes mean and covariance
    from the weighted draws, those of q(z|x) at first, and is drawn from anew. The draws of the last round are given;
    weights of another than the last do not enter, so that they are plain importance weights, to be judged by k-hat.

    Returns:
        Values by site, `(K, B, *event)` with the rows second, and log w.

    Raises:
        InputError: a latent without coordinates, such as a discrete one.

    Source: Oh & Berger 1992; Cappé, Douc, Guillin, Marin & Robert 2008.
    """
    at_least(2, num_samples=num_samples)
    at_least(1, rounds=rounds)
    latents = Latents(model, guide, rows)
    u = latents.draw_q(num_samples)
    log_p, log_q = latents.log_both(u)
    for _ in range(rounds):
        proposal = _fitted(u.double(), (log_p - log_q).double())
        u = proposal.sample((num_samples,)).to(u)
        log_p, log_q = latents.log_joint(u), proposal.log_prob(u.double())
    values, _ = latents.values(u)
    first = {site.name: site.layout.rows_first(values[site.name], site.fn) for site in latents.sites}
    return first, log_p.double() - log_q


def _fitted(u: Tensor, log_w: Tensor) -> MultivariateStudentT:
    """The Student-t of batch shape `(B,)` with mean and covariance of the draws `(K, B, D)`."""
    log_w = log_w.nan_to_num(nan=-torch.inf)
    enough = min(5 * (u.shape[-1] + 1), len(u) // 2)
    w = torch.zeros_like(log_w)
    for power in reversed(POWERS):
        flat = power * log_w if power else torch.where(log_w > -torch.inf, 0.0, -torch.inf).to(log_w)
        w = torch.where((ess(flat) >= enough) | (power == 0), flat.softmax(0), w)
    mean = torch.einsum("kb,kbd->bd", w, u)
    off = u - mean
    covariance = torch.einsum("kb,kbd,kbe->bde", w, off, off)
    least = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12)
    tril = torch.linalg.cholesky(covariance + torch.diag_embed(1e-4 * least))
    return MultivariateStudentT(covariance.new_tensor(DF), mean, tril)
