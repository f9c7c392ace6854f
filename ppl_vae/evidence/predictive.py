"""Posterior predictive checks: does a statistic of x look like that of rows drawn anew from the same z?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.core.registry import did_you_mean
from ppl_vae.core.results import Result, table
from ppl_vae.programs import terms
from ppl_vae.programs.scores import Batch, ProgramLike, batches

Statistic = Callable[[Tensor], Tensor]
TAIL = 0.025


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).nanmean(-1)


def _sd(x: Tensor) -> Tensor:
    wide = x.flatten(1).double()  # in which no square of a float32 is too large
    return (wide - wide.nanmean(-1, keepdim=True)).square().nanmean(-1).sqrt().to(x.dtype)


STATISTICS: dict[str, Statistic] = {
    "mean": _mean,
    "sd": _sd,
    "min": lambda x: x.flatten(1).nan_to_num(nan=torch.inf).amin(-1),
    "max": lambda x: x.flatten(1).nan_to_num(nan=-torch.inf).amax(-1),
    "zeros": lambda x: torch.where(x.isnan(), torch.nan, (x == 0).to(x)).flatten(1).nanmean(-1),
}
"""Of the numbers of a row, missing cells left out: mean, standard deviation, least, greatest, the fraction of zeros."""


@dataclass(frozen=True)
class Checked:
    """One statistic T.

    Args:
        observed: T(x) of each row, `(N,)`.
        replicated: T(x_rep), `(draws, N)`.
        p: P(T(x_rep) ≥ T(x)) of each row, `(N,)`.
    """

    observed: Tensor
    replicated: Tensor
    p: Tensor

    def fields(self) -> dict[str, float]:
        """Means over rows, the mean p, and the fractions of rows with a p in either tail of 2.5 %."""
        return {
            "observed": self.observed.mean().item(),
            "replicated": self.replicated.mean().item(),
            "p_mean": self.p.mean().item(),
            "low": (self.p < TAIL).double().mean().item(),
            "high": (self.p > 1 - TAIL).double().mean().item(),
        }


@dataclass(frozen=True, repr=False)
class PredictiveCheck(Result):
    """What posterior predictive checks found, by statistic."""

    statistics: dict[str, Checked]

    def fields(self) -> dict[str, Any]:
        return {name: checked.fields() for name, checked in self.statistics.items()}

    def lines(self) -> Iterator[Any]:
        yield "rows drawn anew, x_rep ~ p(x|z), z ~ q(z|x): means over rows, and how many rows are extreme"
        made = table("T", "T(x)", "T(x_rep)", "mean p", "p < 2.5 %", "p > 97.5 %")
        for name, f in self.fields().items():
            tails = (f"{100 * f[key]:z.1f} %" for key in ("low", "high"))
            made.add_row(name, f"{f['observed']:.4g}", f"{f['replicated']:.4g}", f"{f['p_mean']:z.2f}", *tails)
        yield made


@torch.no_grad()
def predictive_check(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Batch,
    statistics: Mapping[str, Statistic] | Sequence[str] = ("mean", "sd", "min", "max", "zeros"),
    *,
    draws: int = 200,
    site: str | None = None,
    batch_size: int = 100,
) -> PredictiveCheck:
    """Statistics of each row x beside those of x_rep ~ p(x|z), z ~ q(z|x): p = P(T(x_rep) ≥ T(x)).

    A p near 0 says that T(x) is larger than the model makes it, one near 1 that it is smaller. As z comes from x
    itself, p is nearer to ½ than a uniform number even if the model is right: many rows in the tails speak against
    it, and few do not speak for it. Where T takes few values, ties add to p. Cells that are missing in x are missing in
    x_rep.

    Args:
        rows: N rows.
        statistics: names of `STATISTICS`, or functions of rows `(B, *shape)` that give a number for each, `(B,)`.
        draws: of x_rep for each row.
        site: the observed site; by default `x`, or the only one.
        batch_size: rows at a time.

    Raises:
        InputError: no such site or statistic, or a statistic that gives another shape than `(B,)`.

    Source: Rubin 1984; Meng 1994; Gelman, Meng & Stern 1996.
    """
    at_least(1, draws=draws)
    chosen = statistics_of(statistics)
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in chosen}
    for batch in batches(rows, batch_size):
        x, again = _observed_and_drawn(model, guide, batch, draws, site)
        for name, statistic in chosen.items():
            observed = _applied(name, statistic, x)
            replicated = _applied(name, statistic, again.flatten(0, 1)).reshape(draws, -1)
            parts[name].append((observed, replicated))
    found = {}
    for name, each in parts.items():
        observed, replicated = torch.cat([a for a, _ in each]), torch.cat([b for _, b in each], -1)
        found[name] = Checked(observed, replicated, (replicated >= observed).double().mean(0))
    return PredictiveCheck(found)


def statistics_of(statistics: Mapping[str, Statistic] | Sequence[str]) -> Mapping[str, Statistic]:
    """Statistics by name, where names of `STATISTICS` are given.

    Raises:
        InputError: no statistic has this name.
    """
    if isinstance(statistics, Mapping):
        return statistics
    for name in statistics:
        if name not in STATISTICS:
            raise InputError(
                f"no statistic is called {name!r}: there are {', '.join(STATISTICS)}{did_you_mean(name, STATISTICS)}"
            )
    return {name: STATISTICS[name] for name in statistics}


def _observed_and_drawn(
    model: ProgramLike, guide: ProgramLike, batch: Batch, draws: int, site: str | None
) -> tuple[Tensor, Tensor]:
    """x, `(B, *shape)`, and x_rep, `(draws, B, *shape)`, as floating-point numbers."""
    one, many = terms(model, guide, batch), terms(model, guide, batch, draws)
    if site is None:
        site = next(iter(one.observed)) if len(one.observed) == 1 else "x"
    if site not in one.observed:
        raise InputError(f"the model observes no site {site!r}: it observes {', '.join(map(repr, one.observed))}")
    x, again = one.by_row(site, one.observed[site])[0], many.by_row(site, many.p[site].sample())
    if not x.is_floating_point():
        x, again = x.double(), again.double()
    return x, torch.where(x.isnan(), x, again)


def _applied(name: str, statistic: Statistic, x: Tensor) -> Tensor:
    value = statistic(x)
    if value.shape != x.shape[:1]:
        raise InputError(
            f"statistic {name!r} gives the shape {tuple(value.shape)} for {len(x)} rows: it must give one number each, "
            f"{tuple(x.shape[:1])}"
        )
    return value.double()
