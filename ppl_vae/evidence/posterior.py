"""Draws of the posterior p(z|x) itself, made from those of a guide: by resampling them, or by moving them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.special import ndtri

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.evidence.hmc import point_at, transition, tuned
from ppl_vae.evidence.khat import ess, khat, reliable
from ppl_vae.evidence.latents import Latents
from ppl_vae.programs import terms
from ppl_vae.programs.scores import Batch, ProgramLike, Values, batches, log_weight

MOST_RHAT = 1.01
LEAST_ACCEPTANCE = 0.3  # below it the step size found no path


@dataclass(frozen=True)
class Posterior:
    """Draws of p(z|x), and of which rows they may be believed.

    Args:
        values: by latent site, `(draws, N, *event)`; those of one chain stand together.
        reliable: may the row's draws be believed? `(N,)`.
        diagnostics: by name, `(N,)`: `khat` and `ess` of resampling, `rhat` and `acceptance` of HMC.
        chains: how many chains the draws come from; 1 where they are independent or resampled.
    """

    values: Values
    reliable: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    chains: int = 1


@torch.no_grad()
def resampled(
    model: ProgramLike, guide: ProgramLike, rows: Batch, draws: int, *, num_samples: int = 1000, batch_size: int = 20
) -> Posterior:
    """Importance resampling: of K draws of q(z|x), `draws` with probabilities w̃_k ∝ p(x, z_k)/q(z_k|x).

    Systematic resampling, in random order: each z_k comes ⌊draws·w̃_k⌋ or ⌈draws·w̃_k⌉ times. The draws tend to those
    of p(z|x) as K grows; a draw that comes many times tells that q is far from it. A row is reliable where
    `khat.reliable` says so: k-hat below 0.5, and at least 100 of the K draws count. Latents may be discrete.

    Args:
        rows: N rows.
        num_samples: K.
        batch_size: rows at a time, of K draws each.

    Raises:
        InputError: K or the draws are too few, or no draw of a row has a weight above 0.

    Source: Rubin 1988; Kitagawa 1996 (systematic); Vehtari et al. 2024 (k-hat).
    """
    at_least(1, draws=draws)
    at_least(2, num_samples=num_samples)
    values: dict[str, list[Tensor]] = {}
    found = []
    for batch in batches(rows, batch_size):
        t = terms(model, guide, batch, num_samples)
        log_w = log_weight(t).double()
        if not (log_w.isfinite().any(0) & (log_w < torch.inf).all(0)).all():
            raise InputError("a weight p(x, z)/q(z|x) is not finite: look at the pair with check")
        chosen = systematic(log_w.softmax(0), draws)
        for site, z in t.values.items():
            z = t.layouts[site].rows_first(z, t.p.get(site) or t.q[site])
            at = chosen.reshape(*chosen.shape, *[1] * (z.dim() - 2)).expand(draws, *z.shape[1:])
            values.setdefault(site, []).append(z.gather(0, at))
        found.append((khat(log_w), ess(log_w)))
    k, count = map(torch.cat, zip(*found, strict=True))
    whole = {site: torch.cat(parts, 1) for site, parts in values.items()}
    return Posterior(whole, reliable(k, count), {"khat": k, "ess": count})


def systematic(w: Tensor, draws: int) -> Tensor:
    """Which of K draws are taken, by weights `(K, B)` that add up to 1: `(draws, B)`, each row in its own order."""
    at = (torch.arange(draws).to(w).unsqueeze(-1) + torch.rand_like(w[:1])) / draws
    total = w.cumsum(0)
    chosen = torch.searchsorted((total / total[-1]).T.contiguous(), at.T.contiguous()).T.clamp(max=len(w) - 1)
    return chosen.gather(0, torch.rand_like(at).argsort(0))


@torch.no_grad()
def by_hmc(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Batch,
    draws: int,
    *,
    chains: int = 8,
    transitions: int = 1000,
    leapfrog: int = 4,
    warmup: int = 100,
    batch_size: int = 20,
) -> Posterior:
    """Hamiltonian Monte Carlo in the coordinates of `Latents`: chains for each row, begun at draws of q(z|x).

    Step sizes are tuned row by row in the warm-up and frozen then. Of the `transitions` of each chain that follow,
    `draws` in all are kept, evenly spaced. A row is reliable where the split R-hat of every coordinate, and of
    log p(x, u), is at most 1.01 over all transitions. R-hat does not see a mode that no draw of the guide begins in.

    Args:
        rows: N rows.
        draws: in all, of each row: the same number from each chain.
        chains: for each row.
        transitions: of each chain after the warm-up, or as many as the draws take.
        leapfrog: steps in a transition, each of which costs a gradient of log p(x, z).
        batch_size: rows at a time, of `chains` chains each.

    Raises:
        InputError: a latent without coordinates, such as a discrete one, or draws that can't be shared among chains.

    Source: Neal 2011; Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021 (R-hat).
    """
    at_least(1, draws=draws, transitions=transitions, leapfrog=leapfrog)
    at_least(2, chains=chains, warmup=warmup)
    if draws % chains:
        raise InputError(f"{draws} draws can't be shared evenly among {chains} chains: give a multiple of {chains}")
    each = draws // chains
    values: dict[str, list[Tensor]] = {}
    found = []
    for batch in batches(rows, batch_size):
        latents = Latents(model, guide, batch)
        path, acceptance = _walk(latents, chains, max(transitions, each), leapfrog, warmup)
        found.append((split_rhat(path).amax(-1), acceptance))
        at = torch.linspace(0, len(path) - 1, each).round().long()
        u = path[at, ..., :-1].transpose(0, 1).flatten(0, 1)  # chain by chain
        for site, z in latents.values(u)[0].items():
            values.setdefault(site, []).append(_rows_first(latents, site, z))
    rhat, acceptance = map(torch.cat, zip(*found, strict=True))
    whole = {site: torch.cat(parts, 1) for site, parts in values.items()}
    good = (rhat <= MOST_RHAT) & (acceptance >= LEAST_ACCEPTANCE)
    return Posterior(whole, good, {"rhat": rhat, "acceptance": acceptance}, chains)


def _rows_first(latents: Latents, name: str, z: Tensor) -> Tensor:
    site = next(site for site in latents.sites if site.name == name)
    return site.layout.rows_first(z, site.fn)


def _walk(latents: Latents, chains: int, transitions: int, leapfrog: int, warmup: int) -> tuple[Tensor, Tensor]:
    """u, and log p(x, u) after it, of each transition, `(T, K, B, D + 1)`; and the mean acceptance, `(B,)`."""

    density = latents.density(together=True)
    start = latents.draw_q(max(chains, 50))  # the spread of q gives each coordinate its unit
    scale = start.std(0).clamp(min=torch.finfo(start.dtype).eps)
    step, point = tuned(density, point_at(density, start[:chains]), leapfrog, scale=scale, transitions=warmup)
    path, probability = [], torch.zeros_like(point.terms[0], dtype=torch.float64)
    for _ in range(transitions):
        point, _, p = transition(density, point, step, leapfrog, scale=scale)
        path.append(torch.cat([point.u, point.terms[0].unsqueeze(-1)], -1))
        probability += p
    return torch.stack(path), probability.mean(0) / transitions


def split_rhat(path: Tensor) -> Tensor:
    """The rank-normalized split R-hat of draws `(T, K, ...)` of K chains: `(...)`, near 1 where the chains agree.

    The larger of two, of the draws and of their distances from the median, which sees chains of different spread. It
    is ∞ where there are fewer than 4 transitions.

    Source: Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021.
    """
    half = len(path) // 2
    if half < 2:
        return path.new_full(path.shape[2:], torch.inf)
    x = torch.cat([path[:half], path[-half:]], 1).double()
    folded = (x - x.flatten(0, 1).median(0).values).abs()
    return torch.maximum(_rhat(x), _rhat(folded))


def _rhat(x: Tensor) -> Tensor:
    flat = x.flatten(0, 1)
    ranks = flat.argsort(0).argsort(0).double() + 1
    z = ndtri((ranks - 0.375) / (len(flat) + 0.25)).reshape(x.shape)
    within = z.var(0).mean(0)
    between = z.mean(0).var(0)
    return ((len(x) - 1) / len(x) + between / within).sqrt()
