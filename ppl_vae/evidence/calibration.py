"""Is q(z|x) the posterior? Simulation-based calibration, for rows that the model draws itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import at_least
from ppl_vae.core.results import Result, table
from ppl_vae.evidence.simulated import rows_like, simulated
from ppl_vae.evidence.uniform import NOTICED, holm, p_values, slope_and_spread
from ppl_vae.programs import joint, terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, batches, sum_sites

LEVEL = 0.05
LOG_LIK, LOG_JOINT = "log p(x|z)", "log p(x, z)"
LEAST_REPEATS, REPEATS_EACH, MOST_REPEATS = 10_000, 1000, 100_000
SHOWN = 10  # quantities in a table


@dataclass(frozen=True)
class Quantity:
    """The ranks of one quantity f(x, z): how many of L draws of q(z|x) have a smaller f than the z that x came from.

    Args:
        ranks: from 0 to L, `(S,)`; uniform if q is the posterior.
        p: that they are uniform, by the ECDF test.
        p_holm: p corrected for the number of quantities.
        looks: in words, how q differs from the posterior: `too narrow`, `too wide`, `too low`, `too high`; empty where
            p_holm is not below 0.05.
    """

    ranks: Tensor
    p: float
    p_holm: float
    looks: str


@dataclass(frozen=True, repr=False)
class Calibration(Result):
    """What simulation-based calibration found.

    Args:
        quantities: by name, every number of z (`z[0]`, `z[1]`, …), then `log p(x|z)` and `log p(x, z)`.
        draws: L, how many draws of q(z|x) a rank is among.
        repeats: of uniform ranks, from which the p-values come.
    """

    quantities: dict[str, Quantity]
    draws: int
    repeats: int

    @property
    def simulations(self) -> int:
        return len(next(iter(self.quantities.values())).ranks)

    @property
    def rejected(self) -> dict[str, Quantity]:
        """The quantities of which q is not the posterior, p_holm < 0.05, the least probable first."""
        found = {name: q for name, q in self.quantities.items() if q.p_holm < LEVEL}
        return dict(sorted(found.items(), key=lambda item: item[1].p))

    @property
    def passed(self) -> bool:
        """Is no quantity rejected? An exact guide passes with a probability of 95 %."""
        return not self.rejected

    def fields(self) -> dict[str, Any]:
        each = {
            name: {"p": q.p, "p_holm": q.p_holm, "looks": q.looks, "mean_rank": q.ranks.double().mean().item()}
            for name, q in self.quantities.items()
        }
        return {"passed": self.passed, "simulations": self.simulations, "draws": self.draws, "quantities": each}

    def lines(self) -> Iterator[Any]:
        count, rejected = len(self.quantities), self.rejected
        yield f"calibration: {self.simulations} rows drawn from the model, ranks among {self.draws} draws of q(z|x)"
        if not rejected:
            least = min(q.p_holm for q in self.quantities.values())
            yield f"nothing against q: {count} quantities have uniform ranks (least corrected p {least:.2g})"
            return
        yield f"q is not the posterior: {len(rejected)} of {count} quantities have ranks that are not uniform"
        made = table("q(z|x) of", "corrected p", "is")
        for name, q in list(rejected.items())[:SHOWN]:
            made.add_row(name, f"{q.p_holm:.2g}", q.looks)
        yield made
        if len(rejected) > SHOWN:
            yield f"and {len(rejected) - SHOWN} more"


@torch.no_grad()
def calibration(
    model: ProgramLike,
    guide: ProgramLike,
    like: Batch,
    *,
    simulations: int = 1000,
    draws: int = 99,
    batch_size: int = 100,
    advance: Callable[[int], None] = lambda rows: None,
) -> Calibration:
    """Simulation-based calibration of q(z|x): z ~ p(z), x ~ p(x|z), z_1, …, z_L ~ q(z|x), S times.

    If q is the posterior, z and z_1, …, z_L are exchangeable given x, so that the rank of f(x, z) among the f(x, z_l)
    is uniform on 0, …, L for every f. The quantities f are each number of z, and log p(x|z) and log p(x, z): a guide
    that returns the prior has uniform ranks of z, and only these two show that it ignores x. Ties, as of a discrete z,
    are broken at random.

    It speaks of rows that the model draws, on average over them, and not of the data; the more the model differs
    from the data, the less it says of q there. Elements of z that a mask leaves out of the density have random ranks.

    Args:
        like: rows of the data, of which the shapes, the given fields and the missing cells are used.
        simulations, draws: S and L.
        batch_size: rows at a time, of L draws each.
        advance: called after each batch with its number of rows, for a progress bar.

    Raises:
        InputError: the model can't be simulated (`simulated`), or S or L is below 1.

    Source: Talts, Betancourt, Simpson, Vehtari & Gelman 2018; Modrák et al. 2023 (quantities that depend on x).
    """
    at_least(1, simulations=simulations, draws=draws)
    parts: list[dict[str, Tensor]] = []
    for batch in batches(rows_like(like, simulations), batch_size):
        parts.append(_ranks(model, guide, batch, draws))
        advance(len(batch[0]))
    ranks = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    repeats = min(max(LEAST_REPEATS, REPEATS_EACH * len(ranks)), MOST_REPEATS)
    p = p_values(torch.stack(list(ranks.values()), -1), draws, repeats)
    corrected = holm(p)
    quantities = {
        name: Quantity(r, p[i].item(), corrected[i].item(), _looks(r, draws) if corrected[i] < LEVEL else "")
        for i, (name, r) in enumerate(ranks.items())
    }
    return Calibration(quantities, draws, repeats)


def _ranks(model: ProgramLike, guide: ProgramLike, like: Batch, draws: int) -> dict[str, Tensor]:
    """The rank of each quantity, `(B,)` each."""
    batch, truth = simulated(model, guide, like)
    t = terms(model, guide, batch, draws)
    p = joint(model, batch, truth)
    found = {}
    for site in t.log_prior:
        layout, fn = t.layouts[site], t.p[site]
        z, z0 = layout.rows_first(t.values[site], fn), layout.rows_first(truth[site], fn)
        counted = _counted(t, site)
        rank = _rank(*(torch.where(counted, x, 0) for x in (z, z0)))
        for place, each in zip(_places(z.shape[2:]), rank.reshape(len(rank), -1).unbind(-1), strict=True):
            found[f"{site}{place}"] = each
    found[LOG_LIK] = _rank(sum_sites(t.log_lik), sum_sites(p.log_lik))
    found[LOG_JOINT] = _rank(
        sum_sites(t.log_lik) + sum_sites(t.log_prior), sum_sites(p.log_lik) + sum_sites(p.log_prior)
    )
    return {name: rank.cpu() for name, rank in found.items()}


def _counted(t: Terms, site: str) -> Tensor:
    """Which elements of a site's value the density counts, `(K, B, ...)` or what broadcasts to it."""
    if site not in t.counted:
        return torch.ones((), dtype=torch.bool, device=t.values[site].device)
    shape = t.layouts[site].lift(t.values[site], t.q[site]).shape
    return t.by_row(site, t.counted[site].expand(shape))


def _rank(f: Tensor, f0: Tensor) -> Tensor:
    """How many of f, `(L, B, ...)`, are below f0, `(1, B, ...)`: `(B, ...)`; of those equal to it, a random number."""
    ties = (f == f0).sum(0)
    return (f < f0).sum(0) + (torch.rand(ties.shape, device=f.device) * (ties + 1)).long()


def _places(shape: torch.Size) -> Iterator[str]:
    """`[0]`, `[1]`, … or `[0,0]`, …; nothing for one number."""
    for place in torch.cartesian_prod(*map(torch.arange, shape)).reshape(shape.numel(), -1).tolist() if shape else [[]]:
        yield f"[{','.join(map(str, place))}]" if place else ""


def _looks(ranks: Tensor, draws: int) -> str:
    """The slope and the U shape of ranks in words; at least one word."""
    slope, spread = slope_and_spread(ranks, draws)
    words = [
        ("too low" if slope > 0 else "too high", abs(slope)),
        ("too narrow" if spread > 0 else "too wide", abs(spread)),
    ]
    return ", ".join(word for word, size in words if size >= NOTICED) or "of another shape"
