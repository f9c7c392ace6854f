"""Every parameter, every draw of the guide and every row of the data is in the support of its distribution."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions import Bernoulli, Binomial, ContinuousBernoulli, Distribution
from pyro.distributions.constraints import sphere
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import lazy_property

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.checks.subject import KINDS, Finding, Subject, samples, shapes
from ppl_vae.distributions.wrappers import describe, family, mask_of, support_of
from ppl_vae.programs.layout import DATA
from ppl_vae.programs.scores import Batch, ProgramLike

ALLOWED = {
    constraints.positive: ("above 0", "pass it through softplus or exp"),
    constraints.nonnegative: ("0 or above", "pass it through softplus or exp"),
    constraints.unit_interval: ("between 0 and 1", "pass it through a sigmoid, or give logits="),
    constraints.simplex: ("0 or above with sum 1", "pass it through a softmax, or give logits="),
    constraints.real: ("a number", ""),
    constraints.boolean: ("0 or 1", ""),
    constraints.nonnegative_integer: ("0, 1, 2, ...", ""),
}


def supports(s: Subject) -> Iterator[Finding]:
    """Check all rows, in chunks, and report the first value of each site that is outside its support."""
    seen: set[str] = set()
    columns = dict(enumerate(s.dataset.columns.get(name, ()) for name in s.dataset.fields))
    for rows, batch in s.chunks():
        try:
            guide = s.trace("guide", batch)
            traces = dict(zip(KINDS, (guide, s.trace("model", batch, guide)), strict=True))
        except Exception as error:
            yield s.failure(f"the pair fails on {shapes(batch)}", error)
            return
        for kind, trace in traces.items():
            for name, site in samples(trace):
                if bad := _bad_parameter(site["fn"]):
                    yield s.error(f"site {name!r}: {bad}", name, kind)
                    return  # what is drawn after it has no meaning
                if kind == "model" and name not in seen and (outside := _outside(site)):
                    seen.add(name)
                    yield s.error(f"site {name!r}: {_offence(site, rows, outside, _names(site, batch, columns))}", name)


def offence(model: ProgramLike, batch: Batch, numbers: Tensor, columns: Sequence[Sequence[str]]) -> str | None:
    """The first of new rows that is outside the support of its likelihood, in words, with what to do; else None.

    Args:
        numbers: the rows' numbers in the data.
        columns: the column names of each field, if it has names.
    """
    with torch.no_grad(), torch.random.fork_rng():
        trace = poutine.trace(model).get_trace(*batch)
    for name, site in samples(trace):
        if site["is_observed"] and (outside := _outside(site)):
            names = _names(site, batch, dict(enumerate(columns)))
            return f"site {name!r}: {_offence(site, numbers, outside, names, fitted=True)}"
    return None


def _names(site: dict, batch: Batch, columns: Mapping[int, Sequence[str]]) -> Sequence[str]:
    """The names of the columns of the field that a site observes as it is."""
    value = site["value"].nan_to_num()
    fields = (i for i, x in enumerate(batch) if x.shape == value.shape and torch.equal(x.nan_to_num(), value))
    return columns.get(next(fields, -1), ())


def measures(s: Subject) -> Iterator[Finding]:
    """log q and log p of a site are densities of the same measure, else their difference has no meaning."""
    sites = s.sites()
    for name in sites["guide"].keys() & sites["model"].keys():
        q, p = (sites[kind][name]["fn"] for kind in KINDS)
        q_space, p_space = _space(q), _space(p)
        if q_space and p_space and q_space != p_space:
            yield s.error(
                f"site {name!r}: the guide's {describe(q)} is over {q_space}, the prior's {describe(p)} over "
                f"{p_space}, so that their densities can't be compared: let both be over the same space",
                name,
                "guide",
            )


def _space(fn: Any) -> str | None:
    """The space that the density is over, in words, or None if the distribution does not say."""
    support = support_of(fn)
    if support is None:
        return None
    if support.is_discrete:
        return "separate values"
    surfaces = {sphere: "a sphere", constraints.simplex: "a simplex"}
    return surfaces.get(support, "numbers")


def squashed(s: Subject) -> Iterator[Finding]:
    """Logits are not probabilities: there is no sigmoid before a `logits=`."""
    for name, site in samples(s.trace("model", s.probe)):
        for part in _parts(site["fn"]):
            logits = vars(part).get("logits")
            if not (site["is_observed"] and isinstance(part, Bernoulli | Binomial | ContinuousBernoulli)):
                continue
            if logits is not None and 0 < logits.min() < logits.max() < 1:
                yield s.warning(
                    f"site {name!r}: all logits of {type(part).__name__} lie between 0 and 1, as behind a sigmoid: "
                    "give probs=, or leave the sigmoid out",
                    name,
                )


def _offence(site: dict, rows: Tensor, found: "Outside", names: Sequence[str], fitted: bool = False) -> str:
    """Which value is outside which support, and how to fix it. With `fitted`, the rows are new to a fitted model."""
    value, column = found.value, found.column
    shown = f"{value:.6g}" if isinstance(value, float) else value
    if not site["is_observed"]:
        return (
            f"the guide draws {shown}, outside the support of its prior, {found.family}: let the guide draw in it, "
            "or swap it"
        )
    place = f"row {rows[found.row]}" + (f", column {', '.join(map(str, column))}" if column else "")
    place += f" ({names[column[0]]!r})" if len(column) == 1 and names else ""
    if value != value:
        return f"{place} of the data is missing: fill it before log_prob, and mask it out: .mask(~x.isnan())"
    fix = _fix(found.support, value, fitted)
    return f"{place} of the data is {shown}, outside the support of {found.family}: {fix}"


def _fix(support: Any, value: Any, fitted: bool) -> str:
    """What to do about a value outside a support."""
    swap = "fix the row or leave it out" if fitted else "fix the data or swap the likelihood"
    if isinstance(value, list):
        return swap
    counted = isinstance(support, constraints.integer_interval)
    if (counted or support is constraints.nonnegative_integer) and value != round(value):
        return f"it is not a whole number: {swap}"
    if counted and fitted:
        return "the run does not know it: leave such rows out, or fit a new run with them"
    if counted:
        low = torch.as_tensor(support.lower_bound).min().item()
        return "values count from 0: fix the data" if value < low else "set more levels, or fix the data"
    if support is constraints.nonnegative_integer:
        return f"a count is 0 or more: {swap}"
    if support is constraints.boolean and not fitted and 0 < value < 1:
        return "binarize the data (--binarize), or swap the likelihood"
    if support in (constraints.boolean, constraints.unit_interval) and not fitted:
        return "binarize or rescale the data (--binarize, --scale), or swap the likelihood"
    if support in (constraints.boolean, constraints.unit_interval):
        return "give the rows in the form that the run was fitted to: scaled (--scale), or 0 and 1 if it saw no others"
    return swap if fitted else "rescale or fix the data, or swap the likelihood"


def _bad_parameter(fn: Any) -> str | None:
    """A parameter that its distribution does not take, as torch's own validation would find it."""
    for part in _parts(fn):
        for name, constraint in _constraints(part).items():
            value = getattr(part, name, None)
            if value is None or (valid := constraint.check(value)).all():
                continue
            example = value[~valid].flatten()[0].item()
            allowed, fix = ALLOWED.get(constraint, (str(constraint), "let the network give such a value"))
            if example != example:
                fix = "find where the NaN comes from; missing cells must be filled before a network sees them"
            return f"{name} of {type(part).__name__} is {example:g}, but must be {allowed}: {fix}"
    return None


def _constraints(fn: Any) -> dict[str, Any]:
    """The constraints of the parameters that were given, except those of matrices."""
    try:
        found = fn.arg_constraints.items()
    except NotImplementedError:
        return {}
    return {
        name: constraint
        for name, constraint in found
        if not (constraints.is_dependent(constraint) or constraint.event_dim > 1)
        and (name in vars(fn) or not isinstance(getattr(type(fn), name, None), lazy_property))
    }


def _parts(fn: Any) -> Iterator[Any]:
    """A distribution and all distributions that it is made of."""
    yield fn
    for name in ("base_dist", "_component_distribution", "_mixture_distribution"):
        if isinstance(part := getattr(fn, name, None), Distribution | torch.distributions.Distribution):
            yield from _parts(part)


def _in_words(support: Any) -> str:
    if not isinstance(support, constraints.integer_interval):
        return str(support)
    low, high = (torch.as_tensor(bound).max().item() for bound in (support.lower_bound, support.upper_bound))
    return f"{low}, ..., {high}"


class Outside(NamedTuple):
    """The first value outside the support of its distribution, with the family and its support."""

    row: int
    column: list[int]
    value: Any
    family: str
    support: Any


def _outside(site: dict) -> Outside | None:
    """The first value outside the support of its distribution, if there is one."""
    fn, value = site["fn"], site["value"]
    try:
        support = fn.support
    except NotImplementedError:
        return None
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    bad = ~support.check(value)
    mask = mask_of(site)
    if mask is not None:
        bad = bad & mask.reshape(mask.shape[: mask.dim() - (value.dim() - bad.dim())])
    if not bad.any():
        return None
    index = bad.nonzero()[0].tolist()
    found = value[tuple(index)].tolist()
    kind = ""
    cells = family(fn)
    if isinstance(cells, Cells):
        kind, support = cells.cell(index[-1])
        kind += ": "
    allowed, _ = ALLOWED.get(support, (_in_words(support), ""))
    plate = next(frame.dim for frame in site["cond_indep_stack"] if frame.name == DATA)
    row = index.pop(value.dim() - fn.event_dim + plate)
    return Outside(row, index, found, f"{type(cells).__name__} ({kind}{allowed})", support)
