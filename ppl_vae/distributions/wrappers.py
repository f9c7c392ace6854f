"""Pyro's wrappers of a distribution (Independent, Masked, Expanded): the family under them, its masks, its support."""

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch
from pyro.distributions import Delta, Distribution, ExpandedDistribution, Independent, MaskedDistribution
from torch import Tensor


def is_wrapper(fn: Any) -> bool:
    return isinstance(fn, torch.distributions.Independent | MaskedDistribution | ExpandedDistribution)


def family(fn: Any, wraps: Callable[[Any], bool] = is_wrapper) -> Any:
    """The distribution under the wrappers, such as the Normal of `Normal(0, 1).expand([3]).mask(True).to_event(1)`.

    Args:
        wraps: which distributions count as wrappers; the first that does not is returned.
    """
    while wraps(fn):
        fn = fn.base_dist
    return fn


def with_family(fn: Any, change: Callable[[Any], Any]) -> Any:
    """The distribution with `change(family)` in the place of its family, under the same wrappers."""
    if isinstance(fn, torch.distributions.Independent):
        return with_family(fn.base_dist, change).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, MaskedDistribution):
        return with_family(fn.base_dist, change).mask(fn._mask)
    if isinstance(fn, ExpandedDistribution):
        return with_family(fn.base_dist, change).expand(fn.batch_shape)
    return change(fn)


def describe(fn: Any) -> str:
    """The name of the family, and the event shape: `"Normal with event shape (20,)"`."""
    return type(family(fn)).__name__ + (f" with event shape {tuple(fn.event_shape)}" if fn.event_shape else "")


def support_of(fn: Any) -> Any:
    """The constraint on the numbers of a value, such as `real` for a Normal under `to_event` or in a mixture.

    Returns:
        None where the distribution does not state its support.
    """
    try:
        support = fn.support
    except NotImplementedError:
        return None
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def is_point(fn: Any) -> bool:
    """Is it a Delta, which returns the value that it is given and draws nothing at random?"""
    return isinstance(family(fn), Delta)


def unmasked(fn: Any) -> Distribution:
    """The distribution without its masks, from which a value is drawn."""
    if isinstance(fn, MaskedDistribution | ExpandedDistribution):
        inner = unmasked(fn.base_dist)
        return inner if inner.batch_shape == fn.batch_shape else inner.expand(fn.batch_shape)
    if isinstance(fn, torch.distributions.Independent):
        return Independent(unmasked(fn.base_dist), fn.reinterpreted_batch_ndims)
    return fn


def own_masks(fn: Any) -> Iterator[tuple[Any, int]]:
    """The masks of a distribution, outermost first, each with the number of event dimensions under it."""
    while is_wrapper(fn):
        if isinstance(fn, MaskedDistribution):
            yield fn._mask, fn.event_dim
        fn = fn.base_dist


def mask_of(site: dict) -> Tensor | None:
    """Which elements of a site's value count in its log-probability, by `poutine.mask` and the distribution's masks.

    Returns:
        A mask that broadcasts to the value, or None if all elements count.
    """
    found = [(site["mask"], site["fn"].event_dim), *own_masks(site["fn"])]
    masks = [(torch.as_tensor(mask), event_dim) for mask, event_dim in found if mask is not None and mask is not True]
    over_value = [mask.reshape(mask.shape + (1,) * event_dim).to(site["value"].device) for mask, event_dim in masks]
    return reduce(torch.logical_and, over_value) if over_value else None
