"""Closed-form Kullback–Leibler divergences KL(q ‖ p), which the analytic-KL ELBO uses as its rate.

The rules for Gaussian pairs use one fact: the KL does not change under an invertible affine map of z. With
p = N(μ_p, L_p L_pᵀ), the map z ↦ L_p⁻¹(z − μ_p) *whitens* p to N(0, I) and takes q = N(μ_q, L_q L_qᵀ) to N(δ, W Wᵀ),
where δ = L_p⁻¹(μ_q − μ_p) and W = L_p⁻¹ L_q, so that

    KL(q ‖ p) = ½ (‖W‖_F² − D − log det W Wᵀ + ‖δ‖²).

A diagonal p makes L_p⁻¹ a division; a full one makes it a triangular solve.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import (
    Beta,
    ContinuousBernoulli,
    Dirichlet,
    Distribution,
    Exponential,
    ExponentialFamily,
    Gamma,
    HalfCauchy,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    Poisson,
    TransformedDistribution,
    Uniform,
    Wishart,
    kl_divergence,
    transforms,
)
from torch.distributions.kl import _KL_REGISTRY
from torch.linalg import solve_triangular

from ppl_vae.core.errors import InputError
from ppl_vae.distributions import bounded, gammas
from ppl_vae.distributions.normals import LowRank
from ppl_vae.distributions.sphere import PowerSpherical, SphericalUniform
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
        mask = _common_mask(q, p)
        value = _kl(q.base_dist, p.base_dist, batch_shape)
        return torch.where(mask.to(value.device), value, value.new_zeros(()))
    if _is(q, Independent) and _is(p, Independent):
        n = min(q.reinterpreted_batch_ndims, p.reinterpreted_batch_ndims)
        inner_shape = batch_shape + q.event_shape[:n]
        return _kl(_dependent(q, n), _dependent(p, n), inner_shape).sum(tuple(range(-n, 0)))
    q_base, p_base = family(q, _is_sum), family(p, _is_sum)
    pair, rule = _most_specific(q_base, p_base)
    _refuse_own_density(q_base, pair[0])
    _refuse_own_density(p_base, pair[1])
    if pair in _RULES:
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
        mask = _common_mask(q, p)
        value = _by_dimension(q.base_dist, p.base_dist, shape)
        return torch.where(mask.to(value.device).reshape(mask.shape + (1,) * n), value, value.new_zeros(()))
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
    if pair is None or pair in _WRONG_IN_TORCH:
        raise _Refused(*[_WRONG_IN_TORCH[pair]] if pair else [])
    return pair, _RULES.get(pair) or _KL_REGISTRY[pair]


@cache
def _nearest(q: type, p: type, rules: int) -> tuple[type, type] | None:
    """The pair of classes of the nearest rule. `rules`, the number of torch's rules, changes when one is registered."""
    table = _KL_REGISTRY | _WRONG_IN_TORCH | _RULES
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


def _common_mask(q: Any, p: Any) -> Tensor:
    masked = [name for name, d in (("q", q), ("p", p)) if _is(d, dist.MaskedDistribution)]
    if len(masked) == 1:
        raise _Refused(f"only {masked[0]} is masked")
    q_mask, p_mask = torch.as_tensor(q._mask), torch.as_tensor(p._mask)
    if q._mask is not p._mask and not bool((q_mask == p_mask).all()):
        raise _Refused("q and p are masked differently")
    return q_mask


# ---- Gaussian pairs ----


def _spread(t: Tensor) -> Tensor:
    """KL(N(0, e²ᵗ) ‖ N(0, 1)) = ½ (e²ᵗ − 1 − 2t).

    `expm1` keeps the digits where t ≈ 0, and the result is never below 0, as e²ᵗ − 1 ≥ 2t holds after rounding too. t
    is a difference of logarithms and not the logarithm of a squared ratio, which would underflow in float32.
    """
    return (torch.expm1(2 * t) - 2 * t) / 2


def _normal_normal(q: Normal, p: Normal) -> Tensor:
    """KL(N(μ_q, σ_q²) ‖ N(μ_p, σ_p²)), elementwise.

    With δ = (μ_q − μ_p)/σ_p and t = log σ_q − log σ_p, under q:

        E[log q] = −log σ_q − ½ log 2π − ½
        E[log p] = −log σ_p − ½ log 2π − ½ (σ_q² + (μ_q − μ_p)²)/σ_p²
        KL       = ½ (e²ᵗ − 1 − 2t + δ²).

    For p = N(0, 1) this is −½ (1 + log σ² − μ² − σ²): Kingma & Welling (2014), appendix B.
    """
    δ = (q.loc - p.loc) / p.scale
    return _spread(q.scale.log() - p.scale.log()) + δ.square() / 2


def _full_diagonal(q: MultivariateNormal, p: Normal) -> Tensor:
    """KL(N(μ_q, L Lᵀ) ‖ N(μ_p, diag σ²)): whiten with L_p = diag σ. Returns `batch`."""
    t = _log_diagonal(q.scale_tril) - p.scale.log()
    return _whitened((q.loc - p.loc) / p.scale, q.scale_tril / p.scale.unsqueeze(-1), t)


def _full_full(q: MultivariateNormal, p: MultivariateNormal) -> Tensor:
    """KL(N(μ_q, L_q L_qᵀ) ‖ N(μ_p, L_p L_pᵀ)): whiten by triangular solves. Returns `batch`."""
    δ = solve_triangular(p.scale_tril, (q.loc - p.loc).unsqueeze(-1), upper=False).squeeze(-1)
    W = solve_triangular(p.scale_tril, q.scale_tril, upper=False)
    return _whitened(δ, W, _log_diagonal(q.scale_tril) - _log_diagonal(p.scale_tril))


def _diagonal_full(q: Normal, p: MultivariateNormal) -> Tensor:
    """KL(N(μ_q, diag σ²) ‖ N(μ_p, L_p L_pᵀ)): the full pair with L_q = diag σ. Returns `batch`."""
    return _full_full(MultivariateNormal(q.loc, scale_tril=q.scale.diag_embed(), validate_args=False), p)


def _low_rank_diagonal(q: LowRankMultivariateNormal, p: Normal) -> Tensor:
    """KL(N(μ_q, F Fᵀ + diag d) ‖ N(μ_p, diag σ²)) in O(D R²), without a `(D, D)` matrix. Returns `batch`."""
    return _normal_normal(_diagonal_part(q), p).sum(-1) + _factor_part(q, q.cov_factor / p.scale.unsqueeze(-1))


def _low_rank_full(q: LowRankMultivariateNormal, p: MultivariateNormal) -> Tensor:
    """KL(N(μ_q, F Fᵀ + diag d) ‖ N(μ_p, L_p L_pᵀ)). Returns `batch`."""
    G = solve_triangular(p.scale_tril, q.cov_factor, upper=False)
    return _diagonal_full(_diagonal_part(q), p) + _factor_part(q, G)


def _whitened(δ: Tensor, W: Tensor, t: Tensor) -> Tensor:
    """KL(N(δ, W Wᵀ) ‖ N(0, I)) for a lower-triangular W whose log-diagonal is t.

    E[log q] = −Σᵢ tᵢ − ½ D log 2π − ½ D and E[log p] = −½ D log 2π − ½ E‖z‖², where E‖z‖² is
    tr W Wᵀ + ‖δ‖² = ‖W‖_F² + ‖δ‖². Splitting ‖W‖_F² into its diagonal, Wᵢᵢ² = e²ᵗⁱ, and the rest:

        KL = Σᵢ ½ (e²ᵗⁱ − 1 − 2tᵢ) + ½ Σ_{i>j} Wᵢⱼ² + ½ ‖δ‖², no term of which is negative.

    Shapes: `δ` and `t` are `batch + (D,)`, `W` is `batch + (D, D)`, returns `batch`.
    """
    return (_spread(t) + δ.square() / 2).sum(-1) + W.tril(-1).square().sum((-2, -1)) / 2


def _factor_part(q: LowRankMultivariateNormal, G: Tensor) -> Tensor:
    """What F adds to KL(N(μ_q, diag d) ‖ p) when q has the covariance F Fᵀ + diag d, with G = L_p⁻¹ F.

    The trace gains tr L_p⁻¹ F Fᵀ L_p⁻ᵀ = ‖G‖_F². By the matrix determinant lemma

        log det(F Fᵀ + diag d) = Σᵢ log dᵢ + log det C,    C = I + Fᵀ diag(1/d) F,

    so the KL gains ½ (‖G‖_F² − log det C), at the cost of a Cholesky factor of C.

    Shapes: `G` is `batch + (D, R)`, C is `batch + (R, R)`, returns `batch`.
    """
    A = q.cov_factor / q.cov_diag.sqrt().unsqueeze(-1)
    C = A.mT @ A + torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return G.square().sum((-2, -1)) / 2 - _log_diagonal(torch.linalg.cholesky(C)).sum(-1)


def _diagonal_part(q: LowRankMultivariateNormal) -> Normal:
    return Normal(q.loc, q.cov_diag.sqrt(), validate_args=False)


def _log_diagonal(L: Tensor) -> Tensor:
    return L.diagonal(dim1=-2, dim2=-1).log()


# ---- the sphere ----


def _power_spherical_uniform(q: PowerSpherical, p: SphericalUniform) -> Tensor:
    """KL(PowerSpherical(μ, κ) ‖ uniform on S^{d−1}) = log area − H(q), since log p = −log area everywhere.

    With β = (d − 1)/2, α = β + κ, the normalizer N = 2^{α+β} π^β Γ(α)/Γ(α + β) and b = (1 + μᵀz)/2 ~ Beta(α, β), whose
    E[log b] is ψ(α) − ψ(α + β),

        H(q) = log N − κ (log 2 + ψ(α) − ψ(α + β)),    log area = log 2 + (d/2) log π − log Γ(d/2).

    At κ = 0, N is the area, by Legendre's duplication formula for Γ. Source: De Cao & Aziz (2020). Returns `batch`.
    """
    return p.entropy() - q.entropy()


# ---- families whose normalizer is a difference of large numbers ----


def _continuous_bernoulli(q: ContinuousBernoulli, p: ContinuousBernoulli) -> Tensor:
    """KL(CB(η_q) ‖ CB(η_p)), elementwise; log p(x) = η (x − ½) − ℓ(η), ℓ(η) = log (sinh(η/2)/(η/2)), 0 ≤ x ≤ 1.

    This is an exponential family in x, so that only E_q[x] = ℓ'(η_q) + ½ is needed:

        KL = (η_q − η_p)(E_q[x] − ½) − ℓ(η_q) + ℓ(η_p).

    It is computed in float64: if both η are large, so are the terms, and their sum, the KL, is small. Torch's rule
    clamps λ away from 0 and 1, as its density does; here η is used as it is.
    """
    q_, p_ = (bounded.ContinuousBernoulli(logits=d.logits.double(), validate_args=False) for d in (q, p))
    value = (q_.logits - p_.logits) * (q_.mean - 0.5) - q_.log_normalizer() + p_.log_normalizer()
    return value.to(q.logits.dtype)


_PARAMETERS: dict[type, tuple[str, ...]] = {
    Beta: ("concentration1", "concentration0"),
    Dirichlet: ("concentration",),
    Gamma: ("concentration", "rate"),
    LowRankMultivariateNormal: ("loc", "cov_factor", "cov_diag"),
    MultivariateNormal: ("loc", "scale_tril"),
    Poisson: ("rate",),
}


def _in_float64(q_family: type, p_family: type) -> Callable[[Any, Any], Tensor]:
    """Torch's rule in float64. In float32 its differences of large log Γ or log determinants lose whole nats."""

    def double(d: Any, kind: type) -> Any:
        return kind(**{name: getattr(d, name).double() for name in _PARAMETERS[kind]}, validate_args=False)

    def rule(q: Any, p: Any) -> Tensor:
        dtype = getattr(q, _PARAMETERS[q_family][0]).dtype
        return kl_divergence(double(q, q_family), double(p, p_family)).to(dtype)

    return rule


def _half_cauchy(q: HalfCauchy, p: HalfCauchy) -> Tensor:
    """The KL between two half-Cauchys is that between the two Cauchys, since their densities are even."""
    return kl_divergence(q.base_dist, p.base_dist)


_RULES: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {
    (Normal, Normal): _normal_normal,
    (Normal, MultivariateNormal): _diagonal_full,
    (MultivariateNormal, Normal): _full_diagonal,
    (MultivariateNormal, MultivariateNormal): _full_full,
    (LowRankMultivariateNormal, Normal): _low_rank_diagonal,
    (LowRankMultivariateNormal, MultivariateNormal): _low_rank_full,
    (PowerSpherical, SphericalUniform): _power_spherical_uniform,
    (ContinuousBernoulli, ContinuousBernoulli): _continuous_bernoulli,
    (LowRankMultivariateNormal, LowRankMultivariateNormal): _in_float64(*[LowRankMultivariateNormal] * 2),
    (MultivariateNormal, LowRankMultivariateNormal): _in_float64(MultivariateNormal, LowRankMultivariateNormal),
    (Beta, Beta): _in_float64(Beta, Beta),
    (Dirichlet, Dirichlet): _in_float64(Dirichlet, Dirichlet),
    (Gamma, Gamma): _in_float64(Gamma, Gamma),
    (Poisson, Poisson): _in_float64(Poisson, Poisson),
    (HalfCauchy, HalfCauchy): _half_cauchy,
}

# ---- every other pair ----

_CLAMPED = "torch's rule loses its digits where probs is near 0 or 1"
_WRONG_IN_TORCH: dict[tuple[type, type], str] = {
    (ContinuousBernoulli, Uniform): "torch gives inf for Uniform(0, 1)",
    (Uniform, ContinuousBernoulli): "torch gives inf for Uniform(0, 1)",
    (ContinuousBernoulli, Exponential): _CLAMPED,
    (ContinuousBernoulli, Normal): _CLAMPED,
    (Beta, ContinuousBernoulli): _CLAMPED,
    (Wishart, Wishart): "torch's rule sums over the batch and detaches q",
    (ExponentialFamily, ExponentialFamily): "torch's rule for any exponential family detaches q",
}
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
