"""Closed-form Kullback–Leibler divergences KL(q ‖ p), which the analytic-KL ELBO uses as its rate.

Here wrappers are taken off, and the rule for the two families is found: one of `kl_rules`, or else of torch's registry.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution, transforms
from torch.distributions.kl import _KL_REGISTRY

from ppl_vae.core.errors import InputError
from ppl_vae.distributions import bounded, gammas
from ppl_vae.distributions.kl_rules import RULES, WRONG_IN_TORCH
from ppl_vae.distributions.normals import LowRank
from ppl_vae.distributions.wrappers import describe, family


class NoClosedForm(InputError):
    """KL(q ‖ p) has no closed form that can be trusted."""

    def __init__(self, q: Distribution, p: Distribution, why: str = "") -> None:
        super().__init__(f"no closed-form KL({describe(q)} ‖ {describe(p)})" + (f": {why}" if why else ""))


def kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) = E_q[log q(z) − log p(z)], exactly, with gradients to the parameters of both.

    Pairs that are not derived here are looked up in torch's registry. If q and p have the same mask, the batch entries
    that it leaves out are 0, whatever q and p are there.

    Shapes: q is `batch_q + event`, p is `batch_p + event`, returns `broadcast(batch_q, batch_p)`.

    Raises:
        NoClosedForm: the pair has no closed form that can be trusted.
    """
    batch_shape = _batch_shape(q, p)
    try:
        return _kl(q, p, batch_shape)
    except _Refused as refusal:
        raise NoClosedForm(q, p, str(refusal)) from refusal.__cause__


def kl_by_dimension(q: Distribution, p: Distribution) -> Tensor:
    """The KL of each dimension of an event, if q and p both factorize over the dimensions. They sum to `kl(q, p)`.

    Shapes: returns `broadcast(batch_q, batch_p) + event`.

    Raises:
        NoClosedForm: the pair has no closed form, or q or p does not factorize.
    """
    shape = _batch_shape(q, p) + q.event_shape
    try:
        return _by_dimension(q, p, shape)
    except _Refused as refusal:
        raise NoClosedForm(q, p, str(refusal)) from refusal.__cause__


def _batch_shape(q: Distribution, p: Distribution) -> torch.Size:
    if q.event_shape != p.event_shape:
        raise NoClosedForm(q, p, "their event shapes differ")
    try:
        return torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    except RuntimeError:
        shapes = f"{tuple(q.batch_shape)} and {tuple(p.batch_shape)}"
        raise NoClosedForm(q, p, f"their batch shapes {shapes} do not broadcast") from None


class _Refused(Exception):
    """Why the pair under the wrappers has no closed form. `kl` adds the names of the distributions it was given."""


def _kl(q: Any, p: Any, batch_shape: torch.Size) -> Tensor:
    """Remove the wrappers of q and p, outermost first, then look the two families up."""
    q, p = family(q, _is_idle), family(p, _is_idle)
    if _is(q, dist.MaskedDistribution) or _is(p, dist.MaskedDistribution):
        mask, elsewhere = _common_mask(q, p)
        value = _kl(q.base_dist, p.base_dist, batch_shape)
        return torch.where(mask.to(value.device), value, elsewhere.to(value))
    if _is(q, Independent) and _is(p, Independent):
        n = min(q.reinterpreted_batch_ndims, p.reinterpreted_batch_ndims)
        inner_shape = batch_shape + q.event_shape[:n]
        return _kl(_dependent(q, n), _dependent(p, n), inner_shape).sum(tuple(range(-n, 0)))
    q_base, p_base = family(q, _is_sum), family(p, _is_sum)
    pair, rule = _most_specific(q_base, p_base)
    _refuse_own_density(q_base, pair[0])
    _refuse_own_density(p_base, pair[1])
    if pair in RULES:
        return rule(q_base, p_base).expand(batch_shape)
    if q is not q_base or p is not p_base:
        raise _Refused
    if pair == (TransformedDistribution, TransformedDistribution):
        return _same_map(q, p, batch_shape)
    return _torch_kl(rule, q, p, batch_shape)


def _by_dimension(q: Any, p: Any, shape: torch.Size) -> Tensor:
    q, p = family(q, _is_idle), family(p, _is_idle)
    n = len(q.event_shape)
    if _is(q, dist.MaskedDistribution) or _is(p, dist.MaskedDistribution):
        mask, elsewhere = (x.reshape(x.shape + (1,) * n) for x in _common_mask(q, p))
        value = _by_dimension(q.base_dist, p.base_dist, shape)
        return torch.where(mask.to(value.device), value, elsewhere.to(value))
    if not all(n == 0 or (_is(d, Independent) and d.reinterpreted_batch_ndims == n) for d in (q, p)):
        raise _Refused("it is not a sum over dimensions")
    return _kl(_dependent(q, n), _dependent(p, n), shape) if n else _kl(q, p, shape)


# ---- which class a distribution is of ----

_HARMLESS = {
    *("__init__", "__module__", "__doc__", "__repr__", "__annotations__", "__parameters__", "__orig_bases__"),
    *("__abstractmethods__", "_abc_impl", "__slots__", "__firstlineno__", "__static_attributes__"),
    *("arg_constraints", "support", "has_rsample", "has_enumerate_support", "expand", "sample", "rsample"),
    *("enumerate_support", "mean", "mode", "variance", "stddev", "entropy", "cdf", "icdf"),
}
"""What a subclass may define and still have the density of its parent: how it is made and drawn, and its moments."""

_SAME_DENSITY = {
    *(dist.Binomial, dist.Categorical, dist.Geometric, dist.Independent, dist.Poisson),
    *(bounded.Beta, bounded.ContinuousBernoulli, gammas.Binomial, gammas.Poisson),
    LowRank,
}
"""Classes that compute the density of their parent in another way."""


@cache
def _own(kind: type, parent: type) -> frozenset[str]:
    """The methods and parameters that a density may depend on and that `kind`, or a class below `parent`, redefines."""
    parents = kind.__mro__
    parameters = parent.__dict__.get("arg_constraints", {})
    parameters = parameters if isinstance(parameters, dict) else {}
    below = [c for c in parents[: parents.index(parent)] if c not in _SAME_DENSITY]
    return frozenset(n for c in below for n in vars(c) if hasattr(parent, n) or n in parameters) - _HARMLESS


def _is(d: Any, parent: type) -> bool:
    """Is `d` of this class, or of a subclass that has the same density?"""
    kind = d.__class__
    return parent in kind.__mro__ and not _own(kind, parent)


def _refuse_own_density(d: Any, parent: type) -> None:
    own = sorted(_own(d.__class__, parent))
    if own:
        raise _Refused(
            f"{type(d).__name__} has its own {', '.join(own)}, so its density need not be that of {parent.__name__}; "
            "torch.distributions.register_kl takes a rule for it"
        )


def _most_specific(q: Any, p: Any) -> tuple[tuple[type, type], Any]:
    """The rule whose two classes are nearest to those of q and p in the order of inheritance. Ours precede torch's."""
    if isinstance(q, dist.Delta) or isinstance(p, dist.Delta):
        raise _Refused("a Delta has no density")
    pair = _nearest(q.__class__, p.__class__, len(_KL_REGISTRY))
    if pair is None or pair in WRONG_IN_TORCH:
        raise _Refused(*[WRONG_IN_TORCH[pair]] if pair else [])
    return pair, RULES.get(pair) or _KL_REGISTRY[pair]


@cache
def _nearest(q: type, p: type, rules: int) -> tuple[type, type] | None:
    """The pair of classes of the nearest rule. `rules`, the number of torch's rules, changes when one is registered."""
    table = _KL_REGISTRY | WRONG_IN_TORCH | RULES
    found = [
        (q.__mro__.index(Q), p.__mro__.index(P), (Q, P)) for Q, P in table if issubclass(q, Q) and issubclass(p, P)
    ]
    return min(found, key=lambda match: match[:2])[2] if found else None


# ---- wrappers ----


def _is_idle(d: Any) -> bool:
    """Is it a wrapper that changes nothing but the batch shape?"""
    return (
        _is(d, ExpandedDistribution)
        or (_is(d, dist.MaskedDistribution) and d._mask is True)
        or (_is(d, Independent) and d.reinterpreted_batch_ndims == 0)
    )


def _is_sum(d: Any) -> bool:
    """Is it a wrapper that adds up the KL of its parts, or an idle one?"""
    return _is(d, Independent) or _is_idle(d)


def _dependent(d: Independent, n: int) -> Distribution:
    """`d` with its n leftmost independent event dimensions as batch dimensions."""
    return Independent(d.base_dist, d.reinterpreted_batch_ndims - n, validate_args=False)


def _common_mask(q: Any, p: Any) -> tuple[Tensor, Tensor]:
    """Where the KL counts, and what it is elsewhere: 0.

    Where two masks have no numbers, as in a program that is traced, it is NaN where they will differ.
    """
    masked = [name for name, d in (("q", q), ("p", p)) if _is(d, dist.MaskedDistribution)]
    if len(masked) == 1:
        raise _Refused(f"only {masked[0]} is masked")
    q_mask, p_mask = torch.as_tensor(q._mask), torch.as_tensor(p._mask)
    if q._mask is p._mask:
        return q_mask, torch.zeros(())
    same = q_mask == p_mask
    if type(same) is not Tensor:
        return q_mask & same, torch.where(same, 0.0, torch.nan)
    if not bool(same.all()):
        raise _Refused("q and p are masked differently")
    return q_mask, torch.zeros(())


# ---- every other pair ----

_BY_VALUE = (
    *(transforms.AffineTransform, transforms.ExpTransform, transforms.PowerTransform, transforms.SigmoidTransform),
    *(transforms.SoftplusTransform, transforms.StickBreakingTransform, transforms.TanhTransform),
)
"""Transforms that are the same map if torch says that they are equal."""


def _torch_kl(rule: Callable[[Any, Any], Tensor], q: Any, p: Any, batch_shape: torch.Size) -> Tensor:
    """KL(q ‖ p) by a rule of torch's registry, with q and p expanded, since some of its rules do not broadcast."""
    try:
        q, p = (d if d.batch_shape == batch_shape else d.expand(batch_shape) for d in (q, p))
        return rule(q, p).expand(batch_shape)
    except NotImplementedError as error:
        raise _Refused from error
    except RuntimeError as error:  # as of two Categoricals with different numbers of classes
        raise _Refused(f"their parameters do not fit ({str(error).splitlines()[0]})") from error


def _same_map(q: Any, p: Any, batch_shape: torch.Size) -> Tensor:
    """KL(f(q) ‖ f(p)) = KL(q ‖ p) for a one-to-one map f, as for two LogNormals."""
    if not all(t.bijective for d in (q, p) for t in d.transforms):
        raise _Refused("a transform is not one-to-one")
    if len(q.transforms) != len(p.transforms) or not all(map(_equal, q.transforms, p.transforms)):
        raise _Refused("their maps differ")
    return _kl(q.base_dist, p.base_dist, batch_shape)


def _equal(a: Any, b: Any) -> bool:
    """Are two transforms the same map? Not if they learn numbers, even equal ones, since each gets a gradient."""
    if a is b:
        return True
    learned = any(isinstance(v, Tensor) and v.requires_grad for t in (a, b) for v in vars(t).values())
    return type(a) is type(b) and type(a) in _BY_VALUE and a == b and not learned
