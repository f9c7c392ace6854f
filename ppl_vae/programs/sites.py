"""The sites of a trace, held against each other and scored."""

from collections.abc import Iterable
from typing import Any

from pyro import poutine
from pyro.distributions import Distribution
from pyro.distributions.score_parts import ScoreParts
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import is_point, own_masks, unmasked
from ppl_vae.programs.layout import Layout, samples


def latent(trace: poutine.Trace) -> Iterable[tuple[str, dict]]:
    """The sites that are drawn."""
    return ((name, site) for name, site in samples(trace) if not site["is_observed"])


def auxiliary_of_guide(p_sites: dict[str, dict], q_sites: dict[str, dict]) -> set[str]:
    """The guide's auxiliary sites that the model does not have.

    Raises:
        InputError: a latent site that is not auxiliary is in only one of the programs.
    """
    latents = {name for name, site in p_sites.items() if not site["is_observed"]}
    auxiliary = {name for name, site in q_sites.items() if site["infer"].get("is_auxiliary")}
    if missing := latents - set(q_sites):
        raise InputError(
            f"the model draws {listed(missing)}, which the guide does not: sample it in the guide, "
            "or give it obs= in the model"
        )
    if extra := set(q_sites) - latents - auxiliary:
        raise InputError(f"the guide draws {listed(extra)}, which is no latent site of the model")
    return auxiliary - latents


def listed(sites: Iterable[str]) -> str:
    """Names of sites, in quotation marks."""
    return ", ".join(repr(name) for name in sorted(sites))


def log_prob_of(site: dict, layout: Layout) -> Tensor:
    """The log-probability of a site's value, in the site's batch shape.

    Raises:
        InputError: the value has another shape than the site's distribution and plates.
    """
    _check_shapes(site, layout)
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return log_prob if site["mask"] is None else scale_and_mask(log_prob, mask=site["mask"])


def score_function(site: dict) -> Any:
    """Pyro's score function of a site's draw, without masks, since a masked site is drawn like any other.

    Pyro treats `poutine.mask` so, but not a distribution that is masked by `False` or under `to_event`.
    """
    return unmasked(site["fn"]).score_parts(site["value"], *site["args"], **site["kwargs"]).score_function


def score_parts_of(site: dict, layout: Layout, detached: bool) -> ScoreParts:
    """What Pyro makes of a site of the guide: its log-probability and its score function.

    Args:
        detached: as for `terms`.

    Raises:
        InputError: as `log_prob_of`, or, if `detached`, there is no density at a fixed draw.
    """
    _check_shapes(site, layout)
    if not detached:
        parts = site["fn"].score_parts(site["value"], *site["args"], **site["kwargs"]).scale_and_mask(mask=site["mask"])
        return parts._replace(score_function=score_function(site)) if any(own_masks(site["fn"])) else parts
    if is_point(site["fn"]):  # it has no score: its log-density is a function of parameters, not of a draw
        return ScoreParts(log_prob_of(site, layout), 0, 0)
    try:
        score = unmasked(site["fn"]).log_prob(site["value"], *site["args"], **site["kwargs"])
    except (NotImplementedError, KeyError) as error:
        raise InputError(
            f"site {site['name']!r}: its density can't be computed at a fixed draw ({error}): use trace"
        ) from error
    return ScoreParts(log_prob_of(site, layout), score, 0)


def _check_shapes(site: dict, layout: Layout) -> None:
    name, fn, value = site["name"], site["fn"], site["value"]
    batch, event = value.shape[: value.dim() - fn.event_dim], value.shape[value.dim() - fn.event_dim :]
    if event != fn.event_shape:
        raise InputError(
            f"site {name!r}: the distribution is over {tuple(fn.event_shape)}, the value is {tuple(event)}; "
            "they would broadcast silently: give both the same shape"
        )
    if event.numel() and not layout.at(site).covers(batch):
        raise InputError(
            f"site {name!r}: a value of shape {tuple(value.shape)} does not have one entry for each element of the "
            "site's plates; it would broadcast silently: expand it"
        )


def masked(site: dict) -> Distribution:
    """The distribution of a site, with the mask of `poutine.mask`."""
    return site["fn"] if site["mask"] is None else site["fn"].mask(site["mask"])


def common_scale(sites: dict[str, dict]) -> float:
    """The factor of `poutine.scale` that all sites have.

    Raises:
        InputError: they have different ones.
    """
    scales = {name: float(site["scale"]) for name, site in sites.items()}
    if len(set(scales.values())) > 1:
        told = ", ".join(f"{name} {scale:g}" for name, scale in scales.items())
        raise InputError(
            f"sites are scaled differently ({told}), so that the sum is no bound on log p(x): put one poutine.scale "
            "around all sites of both programs, or none"
        )
    return next(iter(scales.values()), 1.0)
