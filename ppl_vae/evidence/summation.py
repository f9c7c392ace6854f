"""log p(x) where every latent is discrete: the sum over all values of all latents."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import describe, family
from ppl_vae.evidence.importance import chunks
from ppl_vae.programs import joint, terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, Values, as_batch, batches, sum_sites

MOST = 100_000
"""Values of all latents together, more of which are not summed."""


def values_of(t: Terms) -> Values:
    """Every value of all latents of one row together, `(C, ...)` for each site, C combinations.

    Raises:
        InputError: a latent is not discrete, is masked, or there are more than `MOST` combinations.
    """
    if t.counted:
        raise InputError(f"site {min(t.counted)!r} is masked in some rows: there is nothing to sum over in them")
    each = {name: _of_site(name, t) for name in t.log_prior}
    total = prod(len(values) for values in each.values())
    if total > MOST:
        raise InputError(f"the latents have {total} values together: at most {MOST} are summed")
    index = torch.cartesian_prod(*(torch.arange(len(values)) for values in each.values())).reshape(total, -1)
    return {name: values[index[:, i]] for i, (name, values) in enumerate(each.items())}


def _of_site(name: str, t: Terms) -> Tensor:
    p, row = t.p[name], t.by_row(name, t.layouts[name].lift(t.values[name], t.p[name]))[0]
    under = family(p)
    if not getattr(under, "has_enumerate_support", False):
        raise InputError(f"site {name!r}: {describe(p)} is not discrete with finitely many values")
    try:
        support = under.enumerate_support(expand=False)
    except NotImplementedError as error:
        raise InputError(f"site {name!r}: the values of {describe(p)} can't be listed") from error
    support = support.reshape(len(support), *under.event_shape)
    elements = prod(row.shape[1:]) // prod(under.event_shape)
    if len(support) ** elements > MOST:
        raise InputError(f"site {name!r} has {len(support)}^{elements} values: at most {MOST} are summed")
    index = torch.cartesian_prod(*[torch.arange(len(support))] * elements).reshape(-1, elements)
    return support[index].reshape(-1, *row.shape[1:])


@torch.no_grad()
def summation(
    model: ProgramLike,
    guide: ProgramLike,
    rows: Tensor | Batch,
    batch_size: int = 100,
    advance: Callable[[int], object] = lambda rows: None,
) -> Tensor:
    """log p(x) = log Σ_z p(x, z) of each row, over all values of all latents, `(N,)`.

    Args:
        guide: only its draw of one batch is looked at, for the shapes of the latents.

    Raises:
        InputError: as `values_of`.
    """
    found = []
    for batch in batches(as_batch(rows), batch_size):
        t = terms(model, guide, batch)
        values = values_of(t)
        C, B, done, parts = len(next(iter(values.values()))), len(batch[0]), 0, []
        for k in chunks(batch, C):
            chosen = {
                name: t.layouts[name].rows_back(z[done : done + k].unsqueeze(1).expand(k, B, *z.shape[1:]), t.p[name])
                for name, z in values.items()
            }
            p = joint(model, batch, chosen)
            parts.append(sum_sites(p.log_prior) + sum_sites(p.log_lik))
            done += k
        found.append(torch.cat(parts).double().logsumexp(0))
        advance(B)
    return torch.cat(found)
