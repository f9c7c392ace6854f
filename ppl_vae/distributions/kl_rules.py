"""The rules for KL(q ‖ p) that are derived here, each a closed form for two families.

The rules for Gaussian pairs use one fact: the KL does not change under an invertible affine map of z. With
p = N(μ_p, L_p L_pᵀ), the map z ↦ L_p⁻¹(z − μ_p) *whitens* p to N(0, I) and takes q = N(μ_q, L_q L_qᵀ) to N(δ, W Wᵀ),
where δ = L_p⁻¹(μ_q − μ_p) and W = L_p⁻¹ L_q, so that

    KL(q ‖ p) = ½ (‖W‖_F² − D − log det W Wᵀ + ‖δ‖²).

A diagonal p makes L_p⁻¹ a division; a full one makes it a triangular solve.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    ContinuousBernoulli,
    Dirichlet,
    Exponential,
    ExponentialFamily,
    Gamma,
    HalfCauchy,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    Poisson,
    Uniform,
    Wishart,
    kl_divergence,
)
from torch.linalg import solve_triangular

from ppl_vae.distributions import bounded
from ppl_vae.distributions.sphere import PowerSpherical, SphericalUniform

# ---- Gaussian pairs ----


def spread(t: Tensor) -> Tensor:
    """KL(N(0, e²ᵗ) ‖ N(0, 1)) = ½ (e²ᵗ − 1 − 2t).

    `expm1` keeps the digits where t ≈ 0, and the result is never below 0, as e²ᵗ − 1 ≥ 2t holds after rounding too. t
    is a difference of logarithms and not the logarithm of a squared ratio, which would underflow in float32.
    """
    return (torch.expm1(2 * t) - 2 * t) / 2


def normal_normal(q: Normal, p: Normal) -> Tensor:
    """KL(N(μ_q, σ_q²) ‖ N(μ_p, σ_p²)), elementwise.

    With δ = (μ_q − μ_p)/σ_p and t = log σ_q − log σ_p, under q:

        E[log q] = −log σ_q − ½ log 2π − ½
        E[log p] = −log σ_p − ½ log 2π − ½ (σ_q² + (μ_q − μ_p)²)/σ_p²
        KL       = ½ (e²ᵗ − 1 − 2t + δ²).

    For p = N(0, 1) this is −½ (1 + log σ² − μ² − σ²): Kingma & Welling (2014), appendix B.
    """
    δ = (q.loc - p.loc) / p.scale
    return spread(q.scale.log() - p.scale.log()) + δ.square() / 2


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
    return normal_normal(_diagonal_part(q), p).sum(-1) + _factor_part(q, q.cov_factor / p.scale.unsqueeze(-1))


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
    return (spread(t) + δ.square() / 2).sum(-1) + W.tril(-1).square().sum((-2, -1)) / 2


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


RULES: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {
    (Normal, Normal): normal_normal,
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

_CLAMPED = "torch's rule loses its digits where probs is near 0 or 1"
WRONG_IN_TORCH: dict[tuple[type, type], str] = {
    (ContinuousBernoulli, Uniform): "torch gives inf for Uniform(0, 1)",
    (Uniform, ContinuousBernoulli): "torch gives inf for Uniform(0, 1)",
    (ContinuousBernoulli, Exponential): _CLAMPED,
    (ContinuousBernoulli, Normal): _CLAMPED,
    (Beta, ContinuousBernoulli): _CLAMPED,
    (Wishart, Wishart): "torch's rule sums over the batch and detaches q",
    (ExponentialFamily, ExponentialFamily): "torch's rule for any exponential family detaches q",
}
