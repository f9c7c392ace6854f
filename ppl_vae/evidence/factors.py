"""log p(x_j|z) of each column, where p(x|z) is a product over the columns."""

from typing import Any

import torch
from pyro.distributions import ExpandedDistribution, MaskedDistribution, Unit
from torch import Tensor

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import describe
from ppl_vae.programs import score, simulate, terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms


def by_column(t: Terms, site: str, fn: Any = None, x: Tensor | None = None) -> Tensor:
    """log p(x_j|z) of each number of the observed site, those of inner plates included, `(K, B, D)`.

    Args:
        fn: a distribution in place of the site's own.
        x: a value in place of the observed one.

    Raises:
        InputError: the distribution does not factorize.
    """
    fn, layout = t.p[site] if fn is None else fn, t.layouts[site]
    each = _by_column(site, fn, t.observed[site] if x is None else x)
    each = each.expand(layout.check(fn.batch_shape) + fn.event_shape)
    return t.by_row(site, each).flatten(2)


def _by_column(site: str, fn: Any, x: Tensor) -> Tensor:
    """log p of each number, in the shape of the distribution's batch and event together."""
    if isinstance(fn, Cells):
        return fn.cell_log_prob(x)
    if isinstance(fn, torch.distributions.Independent):
        return _by_column(site, fn.base_dist, x)
    if isinstance(fn, ExpandedDistribution):
        return _by_column(site, fn.base_dist, x).expand(fn.batch_shape + fn.event_shape)
    if isinstance(fn, MaskedDistribution):
        each, mask = _by_column(site, fn.base_dist, x), torch.as_tensor(fn._mask)
        mask = mask.reshape(mask.shape + (1,) * fn.event_dim)
        return torch.where(mask, each, torch.zeros_like(each))
    if fn.event_dim:
        raise InputError(
            f"site {site!r}: {describe(fn)} says nothing of a single number, so that the columns can't be told apart"
        )
    return fn.log_prob(x)


def factorized(model: ProgramLike, guide: ProgramLike, batch: Batch) -> str:
    """The one observed site, whose numbers are independent given z: the distribution of none of them reads x.

    Raises:
        InputError: several sites are observed, or p(x|z) is no product over the numbers of the first field.
    """
    t = terms(model, guide, batch)
    sites = [name for name in t.log_lik if not isinstance(t.p[name], Unit)]
    if len(sites) != 1 or len(t.log_lik) != 1:
        raise InputError(
            f"the model observes {', '.join(t.log_lik)}: columns are told apart where it observes one site"
        )
    (site,) = sites
    x = t.by_row(site, t.observed[site])[0]
    if x.shape != batch[0].shape or not torch.equal(x.nan_to_num(), batch[0].nan_to_num()):
        raise InputError(f"site {site!r} does not observe the first field as it is, so that there are no columns of it")
    here = by_column(t, site)
    other = simulate(model, batch)[site].reshape(batch[0].shape).to(batch[0])
    other = torch.where(batch[0].isnan(), batch[0], other)
    elsewhere = score(model, guide, (other, *batch[1:]), t.values)
    if not torch.allclose(here, by_column(t, site, elsewhere.p[site]), rtol=1e-3, atol=1e-3, equal_nan=True):
        raise InputError(
            f"site {site!r}: p(x|z) reads x itself, as an autoregressive decoder does, so that it is no product over "
            "the columns"
        )
    return site
