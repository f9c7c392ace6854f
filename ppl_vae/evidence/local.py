"""The best q(z|x) of a guide's own family for each row by itself: the encoder's answer, optimized.

A *local* q has free numbers of its own for each row, `(B, P)`, and no encoder. It starts at the encoder's answer.

- A distribution that was made by a family (`ppl_vae.blocks.families`, or a module of one's own with a `width`) is made
  again from other outputs of the encoder: the family stays exactly what it is. The networks of a flow belong to the
  family, and stay as they are.
- Any other Normal, or MultivariateNormal, is free in all its parameters, in units of the encoder's answer: its mean is
  m + S u and its scale S T, where m and S are the encoder's, and u = 0 and T = I at first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import Distribution
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import describe, family
from ppl_vae.programs import joint, terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, as_batch, sum_sites


class Free(NamedTuple):
    """One site's family with free numbers.

    Args:
        build: a distribution of batch shape `(B,)` from `free` and `fixed`.
        free: what is optimized, `(B, P)`.
        fixed: what else it takes, `(B, ...)` each.
    """

    build: Callable[..., Distribution]
    free: Tensor
    fixed: tuple[Tensor, ...] = ()

    def q(self, free: Tensor) -> Distribution:
        return self.build(free, *self.fixed)

    def rows(self, index: Tensor) -> "Free":
        return Free(self.build, self.free[index], tuple(x[index] for x in self.fixed))


class Local(NamedTuple):
    """A q(z|x) of its own for each of B rows, independent over sites.

    Args:
        model: it is scored; the guide is no longer needed.
        batch: the rows.
        sites: what is free, for each latent site.
    """

    model: ProgramLike
    batch: Batch
    sites: dict[str, Free]

    def q(self) -> dict[str, Distribution]:
        """The distribution of each site, of batch shape `(B,)`."""
        return {name: site.q(site.free) for name, site in self.sites.items()}

    def rows(self, index: Tensor) -> "Local":
        """The rows that an index or a mask `(B,)` picks."""
        batch = tuple(x[index] for x in self.batch)
        return Local(self.model, batch, {name: site.rows(index) for name, site in self.sites.items()})

    def at(self, free: list[Tensor]) -> "Local":
        """The same family at other numbers, one tensor for each site."""
        sites = zip(self.sites.items(), free, strict=True)
        return self._replace(sites={name: site._replace(free=x) for (name, site), x in sites})

    def log_weight(self, num_samples: int, *, path: bool = False) -> Tensor:
        """log p(x, z) − log q(z|x) at K draws of q, `(K, B)`.

        Args:
            path: let log q have no gradient but that by the draw, which is what is left in expectation. It has no
                noise at q(z|x) = p(z|x) (Roeder, Wu & Duvenaud 2017). A flow would need its inverse for it, one
                dimension after the other, and keeps the whole gradient.
        """
        values, log_q = {}, []
        for name, site in self.sites.items():
            q = site.q(site.free)
            values[name] = z = q.rsample((num_samples,))
            fixed = path and not isinstance(family(q), torch.distributions.TransformedDistribution)
            log_q.append((site.q(site.free.detach()) if fixed else q).log_prob(z))
        p = joint(self.model, self.batch, values)
        return sum_sites(p.log_prior) + sum_sites(p.log_lik) - sum(log_q)

    @torch.no_grad()
    def moments(self, num_samples: int) -> dict[str, Tensor]:
        """`<site>_mean` and `<site>_sd` of each site, `(B, ...)`; of draws where there is no closed form."""
        found: dict[str, Tensor] = {}
        for name, q in self.q().items():
            try:
                mean, sd = q.mean, q.variance.sqrt()
            except NotImplementedError:
                z = q.rsample((num_samples,))
                mean, sd = z.mean(0), z.std(0)
            found |= {f"{name}_mean": mean, f"{name}_sd": sd}
        return found


def local(model: ProgramLike, guide: ProgramLike, batch: Tensor | Batch) -> Local:
    """The encoder's answer to each row, with free numbers in the place of the encoder.

    Raises:
        InputError: a site of the guide can't be freed: its draw is not reparameterized, depends on other draws, is
            masked, stands in a plate inside one datum, or is of a family with no rule here.
    """
    batch = as_batch(batch)
    with torch.no_grad():
        sites, again = _freed(model, guide, batch), _freed(model, guide, batch)
    for name, site in sites.items():
        pairs = zip((site.free, *site.fixed), (again[name].free, *again[name].fixed), strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            raise _refused(
                name, "q depends on other draws of the guide, so that no numbers of a row stand for it alone"
            )
    return Local(model, batch, sites)


def _refused(site: str, why: str) -> InputError:
    return InputError(
        f"site {site!r}: {why}: the best q of the guide's family can't be found, nor the parts of the gap"
    )


def _freed(model: ProgramLike, guide: ProgramLike, batch: Batch) -> dict[str, Free]:
    made: list[tuple[Any, Tensor, Any]] = []

    def note(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        width = getattr(module, "width", None)
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].shape == (len(batch[0]), width):
            made.append((module, inputs[0], output))

    handle = register_module_forward_hook(note)
    try:
        t = terms(model, guide, batch)
    finally:
        handle.remove()
    return {name: _free(t, name, made) for name in t.q}


def _free(t: Terms, name: str, made: list[tuple[Any, Tensor, Any]]) -> Free:
    q = t.q[name]
    if name in t.points or name not in t.log_prior:
        raise _refused(name, "it is auxiliary, or follows from other draws")
    if name in t.counted:
        raise _refused(name, "it is masked")
    if not q.has_rsample or name in t.score_function:
        raise _refused(name, f"a draw of {describe(q)} has no gradient")
    if len(q.batch_shape) != 1:
        raise _refused(name, "it stands in a plate inside one datum")
    for module, raw, output in made:
        if _is_same(output, q, t.by_row(name, t.values[name][0])[0], t.log_q[name][0]):
            return Free(module, raw)
    return _normal(name, q)


def _is_same(output: Any, q: Distribution, z: Tensor, log_q: Tensor) -> bool:
    """Is it the distribution q, of which a plate holds a copy? It is if it is of its class and gives z its density."""
    if type(family(output)) is not type(family(q)) or output.event_shape != q.event_shape:
        return False
    return torch.allclose(output.log_prob(z), log_q, rtol=1e-3, atol=1e-3)


def _normal(name: str, q: Distribution) -> Free:
    under = family(q)
    if type(under) is dist.Normal:
        loc, scale = (x.expand(q.batch_shape + q.event_shape) for x in (under.loc, under.scale))
        free = loc.new_zeros(len(loc), 2 * loc[0].numel())
        return Free(_diagonal, free, (loc, scale))
    if type(under) is dist.MultivariateNormal and q is under:
        d = q.event_shape[0]
        return Free(full_normal, q.loc.new_zeros(len(q.loc), d + d * (d + 1) // 2), (q.loc, q.scale_tril))
    raise _refused(name, f"there is no rule for {describe(q)}; a family of ppl_vae.blocks.families has one")


def _diagonal(free: Tensor, loc: Tensor, scale: Tensor) -> Distribution:
    u, log_t = (x.reshape(loc.shape) for x in free.chunk(2, -1))
    return dist.Normal(loc + scale * u, scale * log_t.exp()).to_event(loc.dim() - 1)


def full_normal(free: Tensor, loc: Tensor, L: Tensor) -> dist.MultivariateNormal:
    """N(m, LLᵀ) moved by `(B, D + D(D + 1)/2)` free numbers, in units of itself; it stays as it is where they are 0."""
    d = loc.shape[-1]
    u, log_t, below = free.split([d, d, d * (d - 1) // 2], -1)
    T = log_t.exp().diag_embed()
    i, j = torch.tril_indices(d, d, -1, device=free.device)
    T[..., i, j] = below
    return dist.MultivariateNormal(loc + (L @ u.unsqueeze(-1)).squeeze(-1), scale_tril=L @ T)
