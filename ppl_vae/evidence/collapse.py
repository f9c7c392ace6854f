"""Did the latent collapse? What each dimension of z carries of x, and what to change if it carries nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from pyro.distributions import Normal, constraints
from rich.console import RenderableType
from rich.markup import escape
from torch import Tensor

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.core.results import Result, number, table
from ppl_vae.core.statistics import Estimate
from ppl_vae.distributions.wrappers import family, support_of
from ppl_vae.evidence.aggregate import (
    Draws,
    Information,
    TwoSample,
    draw_both,
    energy_test,
    information,
    log_q_of_all,
    over_rows,
    prior_is_shared,
)
from ppl_vae.evidence.verdict import Verdict, cures, judge
from ppl_vae.objectives.dimensions import ACTIVE, measure
from ppl_vae.programs import terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, as_batch, batches

MOST_ROWS = 1000  # of the aggregated posterior
SHOWN = 10  # dimensions in a table


@dataclass(frozen=True, repr=False)
class Collapse(Result):
    """What N rows say of the latent. Of D dimensions, all sites together, in the model's order.

    Args:
        rows: N.
        dimensions: their names, such as `z[3]`.
        rate: KL(q(z|x) ‖ p(z)) in nats, the mean over rows.
        rate_how: by site of the guide, `closed form` or `Monte Carlo (…)`.
        rate_by_dimension: nats, `(D,)`, always in closed form; NaN where q or p does not factorize or the pair has no
            closed form.
        mean_covariance: Cov_x(E_q[z|x]), `(D, D)`; NaN in the rows and columns of a site whose values are not any real
            numbers: a class has no mean, and numbers on a simplex or a sphere do not vary one by one. Where E_q[z|x] is
            a mean over draws, their noise is subtracted.
        information: I_q(x; z) and KL(q(z) ‖ p(z)), from `information.rows` rows.
        two_sample: q(z) against p(z).
        posterior, prior: the two samples, `(M, D)`; of a class its number.
        notes: what is NaN, and why.
        verdict: in words, with advice.

    Source: Burda, Grosse & Salakhutdinov 2016 (active units); Hoffman & Johnson 2016 (information).
    """

    rows: int
    dimensions: tuple[str, ...]
    rate: Estimate
    rate_how: dict[str, str]
    rate_by_dimension: Tensor
    mean_covariance: Tensor
    information: Information
    two_sample: TwoSample
    posterior: Tensor
    prior: Tensor
    notes: tuple[str, ...]
    verdict: Verdict

    @property
    def mean_variance(self) -> Tensor:
        """Var_x(E_q[z|x]), `(D,)`, in the square of the unit of z; above 0.01 the dimension counts as active.

        The threshold is that of Burda et al. for a prior of variance 1.
        """
        return self.mean_covariance.diagonal()

    @property
    def correlation(self) -> Tensor:
        """Of E_q[z|x] over data, `(D, D)`; NaN where Var_x(E_q[z|x]) is 0."""
        return correlation(self.mean_covariance)

    @property
    def max_correlation(self) -> float:
        """The largest absolute correlation of E_q[z|x] between two dimensions whose variance is above 0.01, or NaN."""
        active = self.mean_variance > ACTIVE
        found = self.correlation[active][:, active].abs().fill_diagonal_(0)
        return found.max().item() if len(found) > 1 else torch.nan

    def fields(self) -> dict[str, Any]:
        i = self.information
        return {
            "rows": self.rows,
            "dimensions": list(self.dimensions),
            "rate": self.rate.value,
            "rate_se_data": self.rate.se,
            "rate_how": dict(self.rate_how),
            "rate_by_dimension": self.rate_by_dimension.tolist(),
            "mean_variance": self.mean_variance.tolist(),
            "active_units": self.verdict.active_units,
            "mutual_information": {
                "rows": i.rows,
                **_with_error("lower", i.lower),
                **_with_error("upper", i.upper),
                "upper_by": i.upper_by,
                "saturated": i.saturated,
            },
            "marginal_kl": {**_with_error("lower", i.marginal_lower), **_with_error("upper", i.marginal_upper)},
            "two_sample": self.two_sample._asdict(),
            "max_correlation": self.max_correlation,
            "notes": list(self.notes),
            "verdict": self.verdict.text,
            "advice": self.verdict.advice,
        }

    def lines(self) -> Iterable[RenderableType]:
        i, units, t = self.information, self.verdict.active_units, self.two_sample
        yield self.verdict.text
        yield ""
        numbers = table("nats per datum", "value ± s.e. over data")
        numbers.add_row("rate, KL(q(z|x) ‖ p(z))", str(self.rate))
        if not i.why:
            numbers.add_row("I(x; z), at least", str(i.lower))
            numbers.add_row("I(x; z), at most", str(i.upper))
            numbers.add_row("KL(q(z) ‖ p(z)), at least", str(i.marginal_lower))
            numbers.add_row("KL(q(z) ‖ p(z)), at most", str(i.marginal_upper))
        yield numbers
        if i.saturated:
            yield f"I(x; z): nearly all of {i.rows} rows are told apart, so that more rows would raise the lower bound"
        yield ""
        count = table("dimensions", "active", "of")
        count.add_row(f"variance of the mean of q > {ACTIVE}", *map(str, units["covariance"].values()))
        count.add_row(f"rate > {ACTIVE} nats", *map(str, units["rate"].values()))
        yield count
        yield ""
        yield from self._largest()
        yield f"q(z) against p(z): energy statistic {number(t.statistic, '.4f')}, p = {number(t.p, '.3g')}"
        if not isnan(self.max_correlation):
            yield f"largest correlation of the means of two active dimensions: {self.max_correlation:z.2f}"
        yield from self.notes
        yield f"advice: {self.verdict.advice}"

    def _largest(self) -> Iterable[RenderableType]:
        known = int((~self.rate_by_dimension.isnan()).sum())
        order = self.by_rate()[:SHOWN]
        each = table("dimension", "rate", "variance of the mean of q")
        for j in order:
            rate, variance = self.rate_by_dimension[j].item(), self.mean_variance[j].item()
            each.add_row(escape(self.dimensions[j]), number(rate, ".3f"), number(variance, ".3f"))
        yield each
        rest = len(self.dimensions) - len(order)
        if rest > 0:
            yield f"and {rest} more" + (", of lower rate" if known else "")
        yield ""

    def by_rate(self) -> list[int]:
        """The dimensions, that of the highest rate first; where rates are not known, by the variance of E_q[z|x]."""
        unknown = bool(self.rate_by_dimension.isnan().all())
        key = self.mean_variance if unknown else self.rate_by_dimension
        return key.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True).tolist()


def _with_error(name: str, e: Estimate) -> dict[str, float]:
    return {name: e.value, f"{name}_se": e.se}


def correlation(covariance: Tensor) -> Tensor:
    """`(D, D)`, between −1 and 1; NaN where a variance is 0, or not above the noise that was subtracted from it."""
    variance = covariance.diagonal()
    scale = torch.where(variance > 0, variance, torch.nan).sqrt()
    return (covariance / scale.outer(scale)).clamp(-1, 1)


@torch.no_grad()
def collapse(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    *,
    num_samples: int = 10,
    batch_size: int = 100,
    advance: Callable[[], None] = lambda: None,
) -> Collapse:
    """Did the latent collapse? From N rows that the pair was not fitted to.

    The aggregated posterior takes M = 1000 of the rows at most, chosen at random. What has a closed form does not
    depend on `batch_size`, nor do the draws of the aggregated posterior.

    Args:
        num_samples: K, draws of each row for rates and means that have no closed form.
        batch_size: rows at a time.
        advance: called after each batch, for a progress bar.

    Raises:
        InputError: fewer than 3 rows, K below 2, or programs that do not fit each other.
    """
    rows = as_batch(rows)
    at_least(2, num_samples=num_samples)
    at_least(1, batch_size=batch_size)
    if (N := len(rows[0])) < 3:
        raise InputError(f"there are {N} rows: how z differs from row to row needs 3 at least")
    chosen = torch.randperm(N)[:MOST_ROWS].sort().values
    some = tuple(x[chosen.to(x.device)] for x in rows)
    draws = draw_both(model, guide, some)
    two_sample = energy_test(draws.points(draws.q, draws.p), draws.points(draws.p, draws.q))

    def passes() -> Iterable[Terms]:
        for batch in batches(rows, batch_size):
            yield terms(model, guide, batch, num_samples)
            advance()

    found = measure(passes(), draws.q)
    told = _information(model, guide, some, draws, found.rate[chosen], batch_size)
    rate = over_rows(found.rate)
    variances = found.mean_covariance.diagonal()
    return Collapse(
        rows=N,
        dimensions=found.names,
        rate=rate,
        rate_how=found.rate_how,
        rate_by_dimension=found.rate_by_dimension,
        mean_covariance=found.mean_covariance,
        information=told,
        two_sample=two_sample,
        posterior=draws.flat(draws.q),
        prior=draws.flat(draws.p),
        notes=found.notes + tuple(f"I(x; z): {told.why}" for _ in range(bool(told.why))),
        verdict=judge(rate, found.rate_by_dimension, variances, told, two_sample, _cures(draws)),
    )


def _information(
    model: ProgramLike, guide: ProgramLike, rows: Batch, draws: Draws, rate: Tensor, batch_size: int
) -> Information:
    try:
        log_q = log_q_of_all(model, guide, rows, draws, batch_size)
    except InputError as error:
        return Information.unknown(len(rate), str(error))
    return information(log_q, rate, prior_is_shared(model, rows, draws))


def _cures(draws: Draws) -> str:
    """What can be tried against collapse with latents of this kind."""
    p = [draws.first.p[site] for site in draws.q]
    real = len(p) == 1 and support_of(p[0]) is constraints.real
    normal = family(p[0])
    standard = isinstance(normal, Normal) and bool((normal.loc == 0).all() and (normal.scale == 1).all())
    return cures(real=real, learned=real and not standard)
