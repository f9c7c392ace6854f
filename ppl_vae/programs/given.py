"""Which fields of a batch the model is given and does not observe, such as the y of p(x|z, y)."""

from collections.abc import Sequence

import torch
from pyro import poutine
from pyro.distributions import Unit

from ppl_vae.programs.layout import owner, samples
from ppl_vae.programs.scores import Batch, ProgramLike, Values
from ppl_vae.programs.state import buffers_kept


def given_fields(model: ProgramLike, fields: Sequence[str], batch: Batch, other: Batch) -> list[str]:
    """The fields that are no part of any observed value. Such a field can be replaced, and no observed value changes.

    Args:
        batch, other: two batches of the same shapes, with different values in every field.
    """
    before = _observed(model, batch)
    return [
        name
        for i, name in enumerate(fields)
        if not _differ(before, _observed(model, (*batch[:i], other[i], *batch[i + 1 :])))
    ]


def _observed(model: ProgramLike, batch: Batch) -> Values:
    with torch.random.fork_rng(), torch.no_grad(), buffers_kept(owner(model)):
        torch.manual_seed(0)
        trace = poutine.trace(model).get_trace(*batch)
    sites = samples(trace)
    return {n: site["value"] for n, site in sites if site["is_observed"] and not isinstance(site["fn"], Unit)}


def _differ(a: Values, b: Values) -> bool:
    return any(not torch.equal(a[n].nan_to_num(), b[n].nan_to_num()) for n in a.keys() & b.keys())
