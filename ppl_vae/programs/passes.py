"""From programs to numbers: draw, score, simulate. Everything else is computed from what they return.

A *program* is a callable `program(*batch)` made of Pyro statements. Its rows are in `pyro.plate("data", ...)`. The K
samples per row have a dimension left of all plates, so that every log-probability is `(K, B)`.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from math import inf
from typing import NamedTuple

import torch
from pyro import poutine
from pyro.distributions import Distribution, Unit
from pyro.distributions.util import is_identically_zero
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import is_point, mask_of
from ppl_vae.programs.auxiliary import check_change_of_variables
from ppl_vae.programs.handlers import Detach, Substitute
from ppl_vae.programs.layout import Layout, layout_of, owner, samples
from ppl_vae.programs.scores import Batch, Fixed, ProgramLike, Terms, Values, as_batch
from ppl_vae.programs.sites import auxiliary_of_guide, common_scale, latent, listed, log_prob_of, masked, score_parts_of
from ppl_vae.programs.state import buffers_kept


def draw(guide: ProgramLike, batch: Tensor | Batch, num_samples: int = 1) -> Values:
    """Draw z_k ~ q(z|x), k = 1..K, for every latent site: a dict of tensors `(K, B, *event)`."""
    batch = as_batch(batch)
    layout = layout_of([guide], batch, num_samples)
    trace = layout.trace(guide, batch)
    return {name: layout.at(site).lower(site["value"], site["fn"]) for name, site in latent(trace)}


def score(
    model: ProgramLike,
    guide: ProgramLike,
    batch: Tensor | Batch,
    values: Mapping[str, Tensor],
    *,
    detached: bool = False,
) -> Terms:
    """Compute log p(x, z) and log q(z|x), term by term, at the given values `(K, B, *event)`.

    Args:
        detached: put log q of every site into `score_function`, without its mask.

    Raises:
        InputError: a latent site has no value, the sites of model and guide do not match, a latent is outside the plate
            `data`, or a log-probability has a shape that no plate explains.
    """
    batch = as_batch(batch)
    sizes = {v.shape[0] for v in values.values()}
    if len(sizes) != 1:
        raise InputError(f"values have different numbers of samples: {sorted(sizes)}" if sizes else "no values given")
    layout = layout_of([model, guide], batch, sizes.pop())
    return collect(model, guide, _guide_at(values, guide, batch, layout), batch, layout, detached)


def terms(
    model: ProgramLike,
    guide: ProgramLike,
    batch: Tensor | Batch,
    num_samples: int = 1,
    *,
    detached: bool = False,
    repeat: bool = False,
    max_nesting: float = inf,
) -> Terms:
    """Draw from the guide and score the draws, in one pass through each program. It raises what `score` raises.

    Args:
        detached: let no gradient flow through a draw, and put log q of every site into `score_function`, without its
            mask.
        repeat: how the samples are arranged, as for `layout_of`.
        max_nesting: the same.
    """
    batch = as_batch(batch)
    layout = layout_of([model, guide], batch, num_samples, repeat=repeat, max_nesting=max_nesting)
    with Detach() if detached else nullcontext():
        guide_trace = layout.trace(guide, batch)
    return collect(model, guide, guide_trace, batch, layout, detached)


class Joint(NamedTuple):
    """log p(x, z) of the model alone, term by term: `log_prior` and `log_lik` by site, `(K, B)`."""

    log_prior: Values
    log_lik: Values


def joint(model: ProgramLike, batch: Tensor | Batch, values: Mapping[str, Tensor]) -> Joint:
    """Compute log p(z) and log p(x|z) at the given values `(K, B, *event)`; the guide is not run.

    Raises:
        InputError: as `score`.
    """
    batch = as_batch(batch)
    layout = layout_of([model], batch, len(next(iter(values.values()))))
    with Substitute(values, layout) as substitute:
        sites = dict(samples(layout.trace(model, batch)))
    if substitute.missing:
        raise InputError(f"no value is given for the latent site {listed(substitute.missing)}")
    log_p = {name: layout.at(site).rows(log_prob_of(site, layout)) for name, site in sites.items()}
    return Joint(
        {name: x for name, x in log_p.items() if not sites[name]["is_observed"]},
        {name: x for name, x in log_p.items() if sites[name]["is_observed"]},
    )


@torch.no_grad()
def simulate(
    model: ProgramLike, batch_like: Tensor | Batch, *, means: bool = False, at: Mapping[str, Tensor] | None = None
) -> Values:
    """Draw z ~ p(z) and x ~ p(x|z), once for each row of `batch_like`, which is used only for its sizes.

    Args:
        means: give E[x|z] in place of the draw of each observed site.
        at: values `(B, *event)` of sites that are not drawn.

    Returns:
        The value of every site, `(B, *event)`. An auxiliary site of the model, r(u|x, z), is no part of p(x, z), and is
        left out.

    Raises:
        InputError: `means` is asked of a distribution that has no mean (Categorical, Cauchy).
    """
    free = poutine.condition(poutine.uncondition(model), data=dict(at or {}))
    trace = poutine.trace(free).get_trace(*as_batch(batch_like))
    return {
        name: mean_of(name, site["fn"]) if means and site["infer"].get("was_observed") else site["value"]
        for name, site in samples(trace)
        if not (isinstance(site["fn"], Unit) or site["infer"].get("is_auxiliary"))  # Unit: pyro.factor
    }


def mean_of(site: str, fn: Distribution) -> Tensor:
    """The mean of a site's distribution.

    Raises:
        InputError: the distribution has no mean (Categorical, Cauchy), or none in closed form (a flow).
    """
    try:
        mean = fn.mean
    except NotImplementedError:
        mean = None
    if mean is None or mean.isnan().any():
        raise InputError(f"site {site!r}: {type(fn).__name__} has no mean: ask for draws")
    return mean


def _guide_at(values: Mapping[str, Tensor], guide: ProgramLike, batch: Batch, layout: Layout) -> poutine.Trace:
    with Substitute(values, layout) as substitute:
        guide_trace = layout.trace(guide, batch)
    if substitute.missing:
        raise InputError(f"no value is given for the latent site {listed(substitute.missing)}")
    return guide_trace


def collect(
    model: ProgramLike,
    guide: ProgramLike,
    guide_trace: poutine.Trace,
    batch: Batch,
    layout: Layout,
    detached: bool = False,
) -> Terms:
    """The terms of a guide's trace: the model is run at the guide's draws, and both are scored.

    Args:
        detached: as for `score`.

    Raises:
        InputError: as `score`.
    """
    q_sites = dict(samples(guide_trace))
    if observed := {name for name, site in q_sites.items() if site["is_observed"]}:
        raise InputError(f"the guide observes {listed(observed)}: a guide only draws")
    log_q, score_function = {}, {}
    for name, site in q_sites.items():
        parts = score_parts_of(site, layout, detached)
        log_q[name] = layout.at(site).rows(parts.log_prob)
        if not is_identically_zero(parts.score_function):
            score_function[name] = layout.at(site).rows(parts.score_function)
    p_sites = dict(samples(layout.trace(poutine.replay(model, trace=_views(guide_trace)), batch)))
    if auxiliary := auxiliary_of_guide(p_sites, q_sites):
        check_change_of_variables(guide, batch, auxiliary)
    log_p = {name: layout.at(site).rows(log_prob_of(site, layout)) for name, site in p_sites.items()}
    return Terms(
        log_prior={name: log_p[name] for name, site in p_sites.items() if not site["is_observed"]},
        log_lik={name: log_p[name] for name, site in p_sites.items() if site["is_observed"]},
        log_q=log_q,
        p={name: masked(site) for name, site in p_sites.items()},
        q={name: masked(site) for name, site in q_sites.items()},
        values={
            name: layout.at(site).lower(site["value"], site["fn"])
            for name, site in (p_sites | q_sites).items()
            if not site["is_observed"]
        },
        observed={name: site["value"] for name, site in p_sites.items() if site["is_observed"]},
        scale=common_scale(p_sites | {f"{name} (guide)": site for name, site in q_sites.items()}),
        layouts={name: layout.at(site) for name, site in (p_sites | q_sites).items()},
        score_function=score_function,
        seen={name: site["value"] for name, site in p_sites.items() if not site["is_observed"]},
        counted={name: mask for name, site in q_sites.items() if (mask := mask_of(site)) is not None},
        points=frozenset(name for name, site in q_sites.items() if is_point(site["fn"])),
        guide_at=lambda values: _fixed_at(values, guide, batch, layout),
    )


def _fixed_at(values: Values, guide: ProgramLike, batch: Batch, layout: Layout) -> Fixed:
    with buffers_kept(owner(guide)):  # the buffers of a BatchNorm must move once in a step, not twice
        sites = dict(samples(_guide_at(values, guide, batch, layout)))
    return Fixed(
        log_q={name: layout.at(site).rows(log_prob_of(site, layout)) for name, site in sites.items()},
        points={name: site["value"] for name, site in sites.items() if is_point(site["fn"])},
    )


def _views(trace: poutine.Trace) -> poutine.Trace:
    """The trace with each draw replaced by a view of it, so that gradients of log p arrive at a tensor of their own."""
    views = trace.copy()
    for name, site in latent(trace):
        views.nodes[name] = {**site, "value": site["value"].view_as(site["value"])}
    return views
