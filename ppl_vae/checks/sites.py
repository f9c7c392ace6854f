"""The sites of model and guide match, in shape, plate, scale and mask: what a bound on log p(x) needs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ppl_vae.checks.subject import Finding, Subject
from ppl_vae.distributions.wrappers import is_point, mask_of
from ppl_vae.programs import terms
from ppl_vae.programs.auxiliary import check_change_of_variables
from ppl_vae.programs.find import Kind
from ppl_vae.programs.layout import DATA


def draws(s: Subject) -> Iterator[Finding]:
    """Guide and model draw a latent in the same shape, and the guide does not draw a continuous latent from a Delta."""
    sites = s.sites()
    followers = _followers(s)
    for name, site in sites["guide"].items():
        other = sites["model"].get(name, site)
        guide, model = (tuple(each["value"].shape) for each in (site, other))
        if guide != model and not other["is_observed"]:
            yield s.error(
                f"site {name!r}: the guide draws {guide}, the model {model}: give both the same size and one .to_event",
                name,
                "guide",
            )
        if is_point(site["fn"]) and name not in followers and not _is_discrete(other["fn"]):
            yield s.warning(
                f"site {name!r}: the guide draws a point (Delta), so what is maximized is no bound on log p(x): "
                "draw from a distribution with a scale, such as a Normal",
                name,
                "guide",
            )


def _followers(s: Subject) -> set[str]:
    """The points (Deltas) that follow from auxiliary draws of the guide by a change of variables."""
    sites = s.sites()
    own = {name for name, site in sites["guide"].items() if site["infer"].get("is_auxiliary")} - set(sites["model"])
    with contextlib.suppress(Exception):  # `scored` reports what is wrong with it
        return check_change_of_variables(s.pair.guide, s.probe, own) if own else set()
    return set()


def _is_discrete(prior: Any) -> bool:
    try:
        return prior.support.is_discrete and not is_point(prior)
    except NotImplementedError:
        return False


def plated(s: Subject) -> Iterator[Finding]:
    """Every site stands in the plate `data`."""
    for kind, name, site in _all(s):
        if not any(frame.name == DATA for frame in site["cond_indep_stack"]):
            yield s.error(
                f"site {name!r} of the {kind} stands outside the plate {DATA!r}: put it under "
                f'`with pyro.plate("{DATA}", x.shape[0]):`',
                name,
                kind,
            )
            return


def weighted(s: Subject) -> Iterator[Finding]:
    """All sites have the same scale, and a latent has the same mask in guide and model."""
    sites = list(_all(s))
    for kind, name, site in sites:
        if isinstance(site["scale"], Tensor) and site["scale"].numel() > 1:
            yield s.error(f"site {name!r} of the {kind}: poutine.scale takes one number, not one per row", name, kind)
            return
    scaled = [(kind, name, float(site["scale"])) for kind, name, site in sites]
    if len({scale for *_, scale in scaled}) > 1:
        kind, name, scale = next(each for each in scaled if each[2] != 1)
        other = next(other for *_, other in scaled if other != scale)
        yield s.error(
            f"site {name!r} of the {kind} is scaled by {scale:g}, another site by {other:g}: the sum is no bound on "
            "log p(x). Put one poutine.scale around all of both programs, or none, and give plates no subsample_size",
            name,
            kind,
        )
    elif scaled and (scale := scaled[0][2]) != 1:
        yield s.warning(
            f"every site is scaled by {scale:g}: a program is given its batches, so a plate needs no subsample_size, "
            "and a weight such as 1/D is no part of log p(x)",
            DATA,
        )
    masks = {(kind, name): mask_of(site) for kind, name, site in sites}
    for kind, name in masks:
        if kind == "guide" and not _alike(masks[kind, name], masks.get(("model", name), masks[kind, name])):
            yield s.error(f"site {name!r} is masked in only one program: give both the same mask", name, kind)


def scored(s: Subject) -> Iterator[Finding]:
    """There are latent and observed sites, and each has one log-probability per row."""
    try:
        with torch.no_grad():
            t = terms(s.pair.model, s.pair.guide, s.probe)
    except Exception as error:
        yield s.failure("the pair fails where it is scored", error)
        return
    first = next(iter(t.p), None)
    if not t.log_lik:
        yield s.error("the model observes nothing: give one of its sites obs=x", first)
    if not t.log_prior:
        yield s.error("the model has no latent site, so there is nothing to infer: draw a z with pyro.sample", first)


def _all(s: Subject) -> Iterator[tuple[Kind, str, dict]]:
    for kind, sites in s.sites().items():
        for name, site in sites.items():
            yield kind, name, site


def _alike(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return all(mask is None or bool(mask.all()) for mask in (a, b))
    return torch.equal(*torch.broadcast_tensors(a, b))
