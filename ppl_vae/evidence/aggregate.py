"""The aggregated posterior q(z) = E_x q(z|x): how much of x a draw tells, and how far q(z) is from the prior.

By Hoffman & Johnson (2016), averaged over data

    rate = E KL(q(z|x) ‖ p(z)) = I_q(x; z) + KL(q(z) ‖ p(z)):

what z tells of x, and what the prior fails to cover. Both terms need log q(z), which is estimated from M rows: each
row's draw is scored by the guide at every row, M² densities.
"""

from dataclasses import dataclass, replace
from math import log, nan
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_vae.core.errors import InputError
from ppl_vae.core.statistics import Estimate
from ppl_vae.distributions.wrappers import family
from ppl_vae.programs import joint, simulate, terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, Values, batches, sum_sites

BLOCK = 100  # rows that are drawn at a time, whatever batch_size is, so that the draws don't depend on it
PAIRS = 20_000  # densities in one pass
PERMUTATIONS = 999
SATURATED = 0.1  # nats below log M: a draw names its row with a probability above 0.9


class Draws(NamedTuple):
    """One draw of the guide for each of M rows, and M draws of the prior.

    Args:
        first: the terms of the first block of rows, from which layouts and distributions are read.
        q, p: by site of the model that the guide draws and that is not masked, `(M, ...)`: rows first.
        log_q: log q of each draw at its own row, summed over sites, `(M,)`.
    """

    first: Terms
    q: Values
    p: Values
    log_q: Tensor

    def flat(self, values: Values) -> Tensor:
        """The values of all sites side by side, `(M, D)`, in float64; of a class its number."""
        return torch.cat([z.reshape(len(z), -1).double().cpu() for z in values.values()], -1)

    def points(self, values: Values, like: Values) -> Tensor:
        """As `flat`, with a class as a corner of a simplex, so that any two classes are equally far apart."""
        found = {}
        for site, z in values.items():
            if isinstance(family(self.first.p[site]), torch.distributions.Categorical):
                z = one_hot(z.long(), int(max(z.max(), like[site].max())) + 1)
            found[site] = z
        return self.flat(found)


def draw_both(model: ProgramLike, guide: ProgramLike, rows: Batch) -> Draws:
    """z ~ q(z|x) once for each row, and as many draws of the prior.

    Raises:
        InputError: every latent is masked.
    """
    q: dict[str, list[Tensor]] = {}
    p: dict[str, list[Tensor]] = {}
    log_q, first = [], None
    for batch in batches(rows, BLOCK):
        t = terms(model, guide, batch)
        first = first or t
        prior = simulate(model, batch)
        log_q.append(sum_sites(t.log_q)[0].double())
        for site in (site for site in t.log_prior if site in t.q and site not in t.counted):
            layout, fn = t.layouts[site], t.q[site]
            q.setdefault(site, []).append(layout.rows_first(t.values[site], fn)[0])
            p.setdefault(site, []).append(layout.rows_first(prior[site].unsqueeze(0), fn)[0])
    if first is None or not q:
        raise InputError("every latent site is masked, so that none has a posterior for each row")
    posterior, prior = ({site: torch.cat(z) for site, z in values.items()} for values in (q, p))
    return Draws(first, posterior, prior, torch.cat(log_q))


def log_q_of_all(model: ProgramLike, guide: ProgramLike, rows: Batch, draws: Draws, batch_size: int) -> Tensor:
    """log q(z_i|x_m), draws i by rows m: `(M, M)`, in float64.

    With one site, the guide runs once for each row and its distribution is asked at all draws. With several, the guide
    runs at all draws, since the distribution of a later site depends on the earlier ones.

    Raises:
        InputError: log q of a draw at other rows is not defined (masks, points, auxiliary draws), can't be computed, or
            differs when it is computed again.
    """
    t = draws.first
    if no_density := sorted(t.counted.keys() | t.points | (t.q.keys() - t.log_prior.keys())):
        raise InputError(
            f"site {no_density[0]!r} is masked, a point or auxiliary, so that q(z|x) is not known at the draws of "
            "other rows"
        )
    found = []
    for batch in batches(rows, batch_size):
        t = terms(model, guide, batch)
        count = len(batch[0])
        step = max(1, PAIRS // count)
        parts = (slice(i, i + step) for i in range(0, len(rows[0]), step))
        columns = [_at(t, guide, batch, _share(t, draws, part, count)) for part in parts]
        found.append(torch.cat(columns).double().cpu())
    log_q = torch.cat(found, 1)
    if not torch.allclose(own := log_q.diagonal(), draws.log_q.cpu(), rtol=1e-3, atol=1e-2):
        raise InputError(
            f"log q differs by up to {(own - draws.log_q.cpu()).abs().max():.2g} nats when a draw is scored again: "
            "there is randomness in the guide besides its draws (dropout), or the inverse of a flow is imprecise"
        )
    return log_q


def _share(t: Terms, draws: Draws, part: slice, count: int) -> Values:
    """Some of the draws, each at all rows of a batch, as `score` takes them: `(k, B, ...)`."""
    found = {}
    for site, z in draws.q.items():
        shared = z[part].unsqueeze(1)
        shared = shared.expand(-1, count, *shared.shape[2:])
        found[site] = t.layouts[site].rows_back(shared, t.q[site])
    return found


def _at(t: Terms, guide: ProgramLike, batch: Batch, values: Values) -> Tensor:
    """log q at given values, `(k, B)`."""
    if len(t.q) > 1:
        return sum_sites(joint(guide, batch, values).log_prior)
    ((site, z),) = values.items()
    q, layout = t.q[site], t.layouts[site]
    layout = replace(layout, num_samples=len(z), nesting=-min(dim for _, dim, _ in layout.plates))
    try:
        return layout.rows(q.log_prob(layout.lift(z, q)))
    except (NotImplementedError, KeyError) as error:
        raise InputError(f"site {site!r}: log q can't be computed at the draws of other rows ({error})") from error


def prior_is_shared(model: ProgramLike, rows: Batch, draws: Draws) -> bool:
    """Is log p(z) the same at each row, as it is unless the model is given covariates? It is tried on two draws."""
    batch = tuple(x[:BLOCK] for x in rows)
    log_p = sum_sites(joint(model, batch, _share(draws.first, draws, slice(0, 2), len(batch[0]))).log_prior)
    return torch.allclose(log_p, log_p[:, :1].expand_as(log_p), rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class Information:
    """I_q(x; z), what a draw of z tells of x, and KL(q(z) ‖ p(z)), each between two bounds, in nats.

    With M rows x_m, a draw z_i ~ q(z|x_i) of each, and q_im = q(z_i|x_m):

        lower = mean_i [log q_ii − log (1/M) Σ_m q_im]              at most log M
        upper = mean_i [log q_ii − log (1/(M−1)) Σ_{m≠i} q_im]      or the rate, if that is smaller

    In expectation over rows, the first is at most I_q(x; z) of the population that the rows come from: it is exactly
    the information about *which* of the M rows was drawn, and a mixture over M rows has a smaller entropy than q(z), on
    average. The second is at least I_q(x; z), by Jensen's inequality, since z_i is independent of the other rows and
    their mean density is an unbiased estimate of q(z_i). The rate is an upper bound too, where all rows have one prior.

    KL(q(z) ‖ p(z)) = rate − I_q lies between rate − upper and rate − lower, row by row. It is what the ELBO can gain
    from a better prior alone.

    The errors are over data, from the spread of the rows' terms. That the terms share rows adds nothing to first order,
    because E_{q(z)} [q(z|x_m)/q(z)] = 1 whatever x_m is; it does matter where the bounds are far apart.

    Args:
        rows: M.
        lower, upper: of I_q(x; z).
        upper_by: `leave-one-out` or `rate`.
        marginal_lower, marginal_upper: of KL(q(z) ‖ p(z)); NaN if the prior differs from row to row.
        saturated: is the lower bound within 0.1 nats of log M? Then nearly every draw tells its row apart from all
            others, and I_q may be anything from log M up.
        why: why the numbers are NaN; empty where they are not.

    Source: Hoffman & Johnson 2016; Poole, Ozair, van den Oord, Alemi & Tucker 2019, section 2 (bounds for a known
    conditional).
    """

    rows: int
    lower: Estimate
    upper: Estimate
    upper_by: str
    marginal_lower: Estimate
    marginal_upper: Estimate
    saturated: bool
    why: str = ""

    @classmethod
    def unknown(cls, rows: int, why: str) -> "Information":
        none = Estimate(nan, nan, "data")
        return cls(rows, none, none, "", none, none, False, why)


def information(log_q: Tensor, rate: Tensor, shared: bool) -> Information:
    """The bounds, from log q(z_i|x_m), `(M, M)`, and the rate of each row, `(M,)`.

    Args:
        shared: have all rows one prior?
    """
    M = len(log_q)
    own, none = log_q.diagonal(), torch.eye(M, dtype=torch.bool)
    lower = own - log_q.logsumexp(1) + log(M)
    upper = own - log_q.masked_fill(none, -torch.inf).logsumexp(1) + log(M - 1)
    by = "leave-one-out"
    if shared and not upper.mean() < rate.mean():
        upper, by = rate, "rate"
    undefined = rate * nan
    low, high = (rate - upper, rate - lower) if shared else (undefined, undefined)
    saturated = bool(log(M) - lower.mean() < SATURATED)
    return Information(M, over_rows(lower), over_rows(upper), by, over_rows(low), over_rows(high), saturated)


def over_rows(x: Tensor) -> Estimate:
    """The mean of one number for each row, with its standard error over data."""
    return Estimate(x.mean().item(), (x.std() / len(x) ** 0.5).item(), "data")


class TwoSample(NamedTuple):
    """Do two samples come from one distribution?

    Args:
        statistic: 𝓔/(2 E|z − z'|), between 0 and 1: 0 where the two distributions are the same.
        p: the part of random splits of all draws whose 𝓔 is at least as large; 1/1000 at least.
    """

    statistic: float
    p: float


def energy_test(a: Tensor, b: Tensor) -> TwoSample:
    """The energy distance 𝓔 = 2 E|a − b| − E|a − a'| − E|b − b'| of two samples of M points, and a permutation test.

    𝓔 is 0 only if the two distributions are the same, and needs no bandwidth. With D the distances of all 2M points and
    s = 1/M for a point of a, −1/M for one of b, 𝓔 = −sᵀDs.

    Shapes: `(M, D)` each.

    Source: Székely & Rizzo 2013.
    """
    M = len(a)
    both = torch.cat([a, b])
    D = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist")
    signs = torch.full((2 * M, 1 + PERMUTATIONS), -1 / M, dtype=D.dtype)
    signs[:M, 0] = 1 / M
    chosen = torch.rand(PERMUTATIONS, 2 * M).argsort(1)[:, :M]
    signs[:, 1:].T.scatter_(1, chosen, 1 / M)
    energy = -(signs * (D @ signs)).sum(0)
    apart = D[:M, M:].mean().item()
    at_least = (energy[1:] >= energy[0] - 1e-12 * apart).sum().item()
    return TwoSample(max(energy[0].item(), 0.0) / (2 * apart) if apart else 0.0, (1 + at_least) / (1 + PERMUTATIONS))
