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
from ppl_vae.evidence.importance import Weighted, importance
from ppl_vae.evidence.latents import Latents
from ppl_vae.evidence.quadrature import check, quadrature
from ppl_vae.evidence.summation import summation, values_of
from ppl_vae.programs import terms
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch

Method = Literal["exact", "sum", "quadrature", "importance", "annealed"]
METHODS: tuple[Method, ...] = get_args(Method)
ACCURATE = 1e-3  # nats, by which a quadrature may have moved last and count as reliable


@dataclass(frozen=True)
class LogPx:
    """log p(x) of N rows.

    Args:
        value: in nats, `(N,)`. Where it is not `reliable`, it is a lower bound in expectation and no more.
        se: its standard error over draws; 0 where it is exact or a sum; of a quadrature, by how much it moved when the
            spacing was halved last, `(N,)`.
        reliable: does `se` hold? `(N,)`.
        method: the place in `METHODS` of the method of each row, `(N,)`.
        weighted: importance sampling of every row, which is always done: the ELBO and k-hat are from it.
        remarks: which method was chosen and why, in sentences.
    """

    value: Tensor
    se: Tensor
    reliable: Tensor
    method: Tensor
    weighted: Weighted
    remarks: tuple[str, ...] = ()

    def of(self, method: Method) -> Tensor:
        """Which rows are by this method, `(N,)`."""
        return self.method == METHODS.index(method)

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
    advance: Callable[[int], object] = lambda rows: None,
) -> LogPx:
    """log p(x) of each row. Importance sampling of all rows is always done, and the other methods are held against it.

    Args:
        rows: N rows, one tensor per field.
        method: `exact` by the model's own `log_px`; `sum` over the values of discrete latents; `quadrature` for three
            latent dimensions at most; `importance` sampling from the guide; `annealed` importance sampling. By default
            the first of them that there is for the model; annealing then takes the place of importance sampling in
            rows whose error is not reliable.
        num_samples: K of importance sampling.
        most_annealed: how many rows are annealed, where no method is named.
        seconds, temperatures: of annealing, see `annealed`.

    Raises:
        InputError: the method that is named does not go with the pair, or the model's `log_px` is of another model.
    """
    rows = as_batch(rows)
    weighted = importance(model, guide, rows, num_samples, batch_size, advance)
    chosen = method or choose(model, guide, rows)
    if chosen == "exact":
        return _exact(model, rows, weighted, batch_size)
    if chosen == "sum":
        return _known("sum", summation(model, guide, rows, batch_size), weighted)
    if chosen == "quadrature":
        found = quadrature(model, guide, rows)
        return _known("quadrature", found.log_px, weighted, found.error)
    by_weights = LogPx(weighted.log_px, weighted.se, weighted.reliable, _codes(weighted, "importance"), weighted)
    places = torch.arange(len(weighted.se)) if chosen == "annealed" else (~weighted.reliable).nonzero().flatten()
    if method is None:
        places = places[:most_annealed]
    if method == "importance" or not len(places):
        return by_weights
    options: dict[str, Any] = {"seconds": seconds} | ({} if temperatures is None else {"temperatures": temperatures})
    try:
        annealing = annealed(model, guide, tuple(x[places] for x in rows), **options)
    except InputError as error:
        if method is not None:
            raise
        return replace(by_weights, remarks=(f"rows that need annealing could not have it: {error}",))
    return _with_annealed(by_weights, places, annealing)


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
    return LogPx(value, error, (error < ACCURATE) & ~(missed & weighted.reliable), _codes(weighted, method), weighted)


def _with_annealed(made: LogPx, places: Tensor, found: Annealed) -> LogPx:
    value, se, reliable, method = (x.clone() for x in (made.value, made.se, made.reliable, made.method))
    value[places], se[places], reliable[places] = found.log_px, found.se, found.reliable
    method[places] = METHODS.index("annealed")
    said = (
        f"annealing: {len(found.log_w)} chains, {found.temperatures} temperatures, from the {found.start} ({found.why})"
    )
    return replace(made, value=value, se=se, reliable=reliable, method=method, remarks=(said,))
