"""What Pyro's wrappers (Independent, Masked, Expanded) leave of a distribution: the draw's own, and its mask."""

from collections.abc import Iterator
from functools import reduce
from typing import Any

import torch
from pyro.distributions import Delta, Distribution, ExpandedDistribution, Independent, MaskedDistribution
from torch import Tensor

WRAPPERS = (torch.distributions.Independent, MaskedDistribution, ExpandedDistribution)


def is_point(fn: Any) -> bool:
    """Does it return the value that it is given (a Delta), where others draw at random?"""
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    return isinstance(fn, Delta)


def unmasked(fn: Any) -> Distribution:
    """The distribution under its masks: what a value is drawn from."""
    if isinstance(fn, MaskedDistribution | ExpandedDistribution):
        inner = unmasked(fn.base_dist)
        return inner if inner.batch_shape == fn.batch_shape else inner.expand(fn.batch_shape)
    if isinstance(fn, torch.distributions.Independent):
        return Independent(unmasked(fn.base_dist), fn.reinterpreted_batch_ndims)
    return fn


def own_masks(fn: Any) -> Iterator[tuple[Any, int]]:
    """The masks in a distribution, outermost first, each with the number of dimensions of an event under it."""
    while isinstance(fn, WRAPPERS):
        if isinstance(fn, MaskedDistribution):
            yield fn._mask, fn.event_dim
        fn = fn.base_dist


def mask_of(site: dict) -> Tensor | None:
    """Which elements of a site's value its log-probability counts, by `poutine.mask` and the distribution's own masks.

    Returns:
        A mask that broadcasts to the value, or None where all count.
    """
    found = [(site["mask"], site["fn"].event_dim), *own_masks(site["fn"])]
    masks = [(torch.as_tensor(mask), event_dim) for mask, event_dim in found if mask is not None and mask is not True]
    over_value = [mask.reshape(mask.shape + (1,) * event_dim).to(site["value"].device) for mask, event_dim in masks]
    return reduce(torch.logical_and, over_value) if over_value else None
