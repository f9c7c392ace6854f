"""log p(x) of each row by the best method that there is for it, and how far it may be believed."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.evidence.annealed import Annealed, annealed
from ppl_vae.evidence.exact import disagreement, exact, has_exact
from ppl_vae.evidence.fitted import believed, fitted
from ppl_vae.evidence.importance import Weighted, importance
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.quadrature import check, quadrature
from ppl_vae.evidence.summation import summation, values_of
from ppl_vae.programs import terms
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch

Method = Literal["exact", "sum", "quadrature", "importance", "fitted", "annealed"]
METHODS: tuple[Method, ...] = get_args(Method)
ACCURATE = 1e-3  # nats, by which a quadrature may have moved last and count as reliable


@dataclass(frozen=True)
class LogPx:
    """log p(x) of N rows.

    Args:
        value: in nats, `(N,)`. Where it is not `reliable`, it is a lower bound in expectation and no more.
        se: its standard error over draws; 0 where it is exact or a sum; of a quadrature, by how much it moved when the
            spacing was halved last and what was found beside its grids, `(N,)`.
        reliable: does `se` hold? `(N,)`.
        khat: the Pareto k-hat of the weights that gave `value`; NaN where there are none, `(N,)`.
        method: the place in `METHODS` of the method of each row, `(N,)`.
        weighted: importance sampling of every row from the guide, which is always done: the ELBO is from it.
        remarks: which method was chosen and why, in sentences.
    """

    value: Tensor
    se: Tensor
    reliable: Tensor
    khat: Tensor
    method: Tensor
    weighted: Weighted
    remarks: tuple[str, ...] = ()

    def of(self, method: Method) -> Tensor:
        """Which rows are by this method, `(N,)`."""
        return self.method == METHODS.index(method)

    def part(self, rows: slice) -> "LogPx":
        """The same of a range of the rows."""
        names = ("value", "se", "reliable", "khat", "method")
        numbers = {name: getattr(self, name)[rows] for name in names}
        return replace(self, **numbers, weighted=Weighted(*(x[rows] for x in self.weighted)))

    @property
    def counts(self) -> dict[Method, int]:
        """How many rows each method has."""
        found: dict[Method, int] = {method: int(self.of(method).sum()) for method in METHODS}
        return {method: count for method, count in found.items() if count}


def log_px(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    method: Method | None = None,
    *,
    num_samples: int = 1000,
    batch_size: int = 100,
    most_annealed: int = 20,
    seconds: float | None = None,
    temperatures: int | None = None,
    advance: Callable[[float], object] = lambda part: None,
) -> LogPx:
    """log p(x) of each row. Importance sampling of all rows is always done, and the other methods are held against it.

    Args:
        rows: N rows, one tensor per field.
        method: `exact` by the model's own `log_px`; `sum` over the values of discrete latents; `quadrature` for three
            latent dimensions at most; `importance` sampling from the guide, or from a proposal that is `fitted` to each
            row; `annealed` importance sampling. By default the first of the first four that there is for the model;
            rows where importance sampling is not reliable then get a fitted proposal, and annealing where that is not
            reliable either.
        num_samples: K of importance sampling, from the guide and from a fitted proposal.
        most_annealed: how many rows are annealed, where no method is named.
        seconds, temperatures: of annealing, see `annealed`.
        advance: called with the part of a stage that was done since the last call: of importance sampling from the
            guide, then from fitted proposals, then of annealing, as far as they are needed.

    Raises:
        InputError: the method that is named does not go with the pair, or the model's `log_px` is of another model.
    """
    rows = as_batch(rows)

    def bar(whole: int) -> Callable[[float], object]:
        return lambda part: advance(part / whole)

    weighted = importance(model, guide, rows, num_samples, batch_size, bar(len(rows[0])))
    chosen = method or choose(model, guide, rows)
    if chosen == "exact":
        return _exact(model, rows, weighted, batch_size)
    if chosen == "sum":
        return _known("sum", summation(model, guide, rows, batch_size), weighted)
    if chosen == "quadrature":
        found = quadrature(model, guide, rows)
        return _known("quadrature", found.log_px, weighted, found.error)
    made = LogPx(
        weighted.log_px, weighted.se, weighted.reliable, weighted.khat, _codes(weighted, "importance"), weighted
    )
    options: dict[str, Any] = {"seconds": seconds} | ({} if temperatures is None else {"temperatures": temperatures})
    stages: dict[Method, tuple[int | None, Callable[[Batch], Weighted | Annealed]]] = {
        "fitted": (None, lambda some: fitted(model, guide, some, num_samples, advance=bar(len(some[0])))),
        "annealed": (most_annealed, lambda some: annealed(model, guide, some, **options, advance=bar(1))),
    }
    for stage, (most, estimate) in stages.items():
        if method in (None, stage):
            places = (~made.reliable).nonzero().flatten()[:most] if method is None else torch.arange(len(made.value))
            made = _staged(made, stage, places, estimate, rows, named=method is not None)
    return made


def choose(model: ProgramLike, guide: ProgramLike, rows: Batch) -> Method:
    """The first method that there is for the pair: exact, sum, quadrature, else importance sampling."""
    if has_exact(model):
        return "exact"
    first = tuple(x[:1] for x in rows)
    with contextlib.suppress(InputError), torch.no_grad():
        values_of(terms(model, guide, first))
        return "sum"
    with contextlib.suppress(InputError):
        check(Latents(model, guide, first))
        return "quadrature"
    return "importance"


def _codes(weighted: Weighted, method: Method) -> Tensor:
    return torch.full(weighted.se.shape, METHODS.index(method))


def _exact(model: ProgramLike, rows: Batch, weighted: Weighted, batch_size: int) -> LogPx:
    value = exact(model, rows, batch_size)
    if wrong := disagreement(value, weighted, rows[0].dtype):
        raise InputError(
            f"the model's log_px is not its log p(x): {wrong}. Make log_px agree with the model, take it out, or name "
            "another method"
        )
    return _known("exact", value, weighted)


def _known(method: Method, value: Tensor, weighted: Weighted, error: Tensor | None = None) -> LogPx:
    """What no draw decides; a quadrature that still moves, or that importance sampling contradicts, is not reliable."""
    error = torch.zeros_like(value) if error is None else error
    missed = weighted.log_px - 6 * weighted.se > value + ACCURATE + error  # a mode that the grid does not hold
    reliable = (error < ACCURATE) & ~(missed & weighted.reliable)
    return LogPx(value, error, reliable, torch.full_like(value, torch.nan), _codes(weighted, method), weighted)


def _staged(
    made: LogPx,
    stage: Method,
    places: Tensor,
    estimate: Callable[[Batch], Weighted | Annealed],
    rows: Batch,
    *,
    named: bool,
) -> LogPx:
    """The rows at some places by another method; as they were where it can't be had and was not named."""
    if not len(places):
        return made
    try:
        found = estimate(tuple(x[places] for x in rows))
    except InputError as error:
        if named:
            raise
        return replace(made, remarks=(*made.remarks, f"rows that are not reliable could not be {stage}: {error}"))
    if isinstance(found, Annealed):
        return _written(made, stage, places, found, torch.full_like(found.log_px, torch.nan), (_said(found),))
    found = believed(found, Weighted(*(x[places] for x in made.weighted)))
    better = (found.reliable | (found.khat < made.khat[places]) | named).nonzero().flatten()
    return _written(made, stage, places[better], Weighted(*(x[better] for x in found)), found.khat[better])


def _written(
    made: LogPx, stage: Method, places: Tensor, found: Weighted | Annealed, khat: Tensor, remarks: tuple[str, ...] = ()
) -> LogPx:
    new = {"value": found.log_px, "se": found.se, "reliable": found.reliable, "khat": khat}
    columns = {name: getattr(made, name).index_put((places,), x) for name, x in new.items()}
    method = made.method.index_fill(0, places, METHODS.index(stage))
    return replace(made, **columns, method=method, remarks=(*made.remarks, *remarks))


def _said(found: Annealed) -> str:
    return (
        f"annealing: {len(found.log_w)} chains, {found.temperatures} temperatures, from the {found.start} ({found.why})"
    )
