"""Distributions on the unit sphere S^{d−1} = {z ∈ R^d : ‖z‖ = 1}, with densities with respect to its surface area."""

from math import inf, lgamma, log, pi
from typing import Any, ClassVar

import torch
from pyro.distributions import Gamma, TorchDistribution, constraints
from torch import Tensor
from torch.nn.functional import normalize

from ppl_vae.core.errors import InputError


class SphericalUniform(TorchDistribution):
    """p(z) = Γ(d/2) / (2 π^{d/2}), one over the area of the sphere.

    The density is 0 where ‖z‖ differs from 1 by a thousandth or more, so that it shows if a guide draws points that are
    not on the sphere.

    Args:
        like: a tensor `(d,)`, whose size, dtype and device are those of the draws.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.sphere
    has_rsample = True

    def __init__(self, like: Tensor, batch_shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        self.like = like
        super().__init__(torch.Size(batch_shape), like.shape)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> "SphericalUniform":
        return SphericalUniform(self.like, batch_shape)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return normalize(_noise(self.like, self._extended_shape(sample_shape)), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        on = ((value.norm(dim=-1) - 1).abs() < 1e-3).expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))
        return torch.where(on, -self.entropy(), -inf)

    def entropy(self) -> Tensor:
        """log area = log 2 + (d/2) log π − log Γ(d/2)."""
        half = len(self.like) / 2
        return self.like.new_full(self.batch_shape, log(2) + half * log(pi) - lgamma(half))

    @property
    def mean(self) -> Tensor:
        return self.like.new_zeros(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        return self.like.new_full(self._extended_shape(), 1 / len(self.like))


class PowerSpherical(TorchDistribution):
    """q(z) = (1 + μᵀz)^κ / N, N = 2^{α+β} π^β Γ(α)/Γ(α + β), with β = (d − 1)/2 and α = β + κ.

    A draw has t = μᵀz = 2b − 1 with b ~ Beta(α, β), and a uniform direction v around μ: it is y = (t, √(1 − t²) v),
    reflected so that the first axis falls on μ. Nothing is rejected, so the draw is reparameterized in μ and κ. The
    reflection takes the *farther* of ±e₁ to μ, so that it never divides by a small number.

    Args:
        loc: μ, of unit norm, `batch + (d,)`, d ≥ 2.
        concentration: κ > 0, `batch`.

    Raises:
        InputError: d is below 2.

    Source: De Cao & Aziz 2020.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.sphere, "concentration": constraints.positive}
    support = constraints.sphere
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        if loc.shape[-1] < 2:
            raise InputError("a spherical latent needs at least 2 dimensions: in 1 the sphere is the two numbers ±1")
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        self.loc, self.concentration = loc.expand(*batch_shape, -1), concentration.expand(batch_shape)
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> "PowerSpherical":
        loc, concentration = self.loc.expand(*batch_shape, -1), self.concentration.expand(batch_shape)
        return PowerSpherical(loc, concentration, validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = self._extended_shape(sample_shape)
        # b is a ratio of Gamma variables: `torch.export` can't capture a Beta, and so 1 − b keeps its digits
        a, c = (Gamma(parameter, torch.ones_like(parameter)).rsample(sample_shape) for parameter in self._beta())
        b, c = a / (a + c), c / (a + c)
        radius = 2 * (b * c).clamp(min=torch.finfo(b.dtype).tiny).sqrt()
        v = normalize(_noise(self.loc, (*shape[:-1], shape[-1] - 1)), dim=-1)
        side = 1 - 2 * (self.loc[..., :1] < 0).to(self.loc.dtype)
        y = torch.cat([side * (c - b).unsqueeze(-1), radius.unsqueeze(-1) * v], dim=-1)
        u = torch.cat([self.loc[..., :1] + side, self.loc[..., 1:]], dim=-1)
        return y - 2 * u * (u * y).sum(-1, keepdim=True) / u.square().sum(-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        """κ log(1 + t) − log N, with log(1 + t) = log 2 − log(1 + ‖z − μ‖²/‖z + μ‖²).

        This form of log(1 + t) keeps its digits near μ and near −μ. κ log 2 is about as large as log N, so the two are
        subtracted in float64.
        """
        if self._validate_args:
            self._validate_sample(value)
        near, far = (value - self.loc).square().sum(-1), (value + self.loc).square().sum(-1)
        ratio = near / far.clamp(min=torch.finfo(far.dtype).eps ** 2)
        return -self.concentration * ratio.log1p() - self._log_peak().to(far.dtype)

    def entropy(self) -> Tensor:
        """log N − κ E[log(1 + t)], where 1 + t = 2b and E[log b] = ψ(α) − ψ(α + β)."""
        α, β = (t.double() for t in self._beta())
        entropy = self._log_peak() - (α - β) * (α.digamma() - (α + β).digamma())
        return entropy.to(self.loc.dtype)

    @property
    def mean(self) -> Tensor:
        """μ E[t], E[t] = (α − β)/(α + β)."""
        α, β = self._beta()
        return self.loc * ((α - β) / (α + β)).unsqueeze(-1)

    @property
    def variance(self) -> Tensor:
        """The diagonal of E[t²] μμᵀ + E[1 − t²]/(d − 1) (I − μμᵀ) − mean meanᵀ.

        E[1 − t²] = 4 E[b(1 − b)] = 4αβ/((α + β)(α + β + 1)).
        """
        α, β = self._beta()
        across = (4 * α * β / ((α + β) * (α + β + 1))).unsqueeze(-1)
        along = self.loc.square()
        return (1 - across) * along + across * (1 - along) / (self.loc.shape[-1] - 1) - self.mean.square()

    def _beta(self) -> tuple[Tensor, Tensor]:
        β = torch.full_like(self.concentration, (self.loc.shape[-1] - 1) / 2)
        return β + self.concentration, β

    def _log_peak(self) -> Tensor:
        """log N − κ log 2, which is −log q(μ), in float64, since float32 keeps few of its digits when κ is large."""
        α, β = (t.double() for t in self._beta())
        return 2 * β * log(2) + β * log(pi) + α.lgamma() - (α + β).lgamma()


def _noise(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, dtype=like.dtype, device=like.device)
