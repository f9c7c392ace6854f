"""A mixture of diagonal normals whose draws are reparameterized."""

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.linalg import solve_triangular
from torch.nn.functional import pad


class ReparameterizedMixture(dist.MixtureSameFamily):
    """Σ_k π_k N(μ_k, diag σ_k²) with implicitly reparameterized draws.

    A draw is that of `MixtureSameFamily`. Its gradient is that of a draw that stays at the same conditional quantiles
    when the parameters move:

        S_d(z) = F(z_d | z_<d) = Σ_k w_kd Φ((z_d − μ_kd)/σ_kd),    w_kd ∝ π_k Π_{j<d} N(z_j; μ_kj, σ_kj²),

    Then dS = 0 and dz = −J⁻¹ ∂S/∂θ dθ, where J = ∂S/∂z is lower triangular. With G_kj = −(z_j − μ_kj)/σ_kj², the
    slope of log N(z_j; μ_kj, σ_kj²),

        J_dj = Σ_k w_kd Φ_kd G_kj − S_d Σ_k w_kd G_kj  for j < d,    J_dd = Σ_k w_kd N(z_d; μ_kd, σ_kd²).

    Only first derivatives are correct. Pyro's `MixtureOfDiagNormals` has pathwise gradients too, but with a
    `sample_shape` it confuses the rows of a batch, and its gradient is NaN where two means are equal.

    Args:
        mixture_distribution: `Categorical` of batch shape `batch`.
        component_distribution: `Normal(...).to_event(1)` of batch shape `batch + (components,)`.

    Source: Graves 2016; Figurnov, Mohamed & Mnih 2018.
    """

    has_rsample = True

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self._attached(self.sample(sample_shape))

    def _attached(self, z: Tensor) -> Tensor:
        """The draw z with its gradient to the parameters."""
        quantiles, weights, Φ = self._quantiles(z)
        with torch.no_grad():
            J = self._jacobian(z, quantiles, weights, Φ)
        shift = solve_triangular(J, (quantiles - quantiles.detach()).unsqueeze(-1), upper=False)
        return z - shift.squeeze(-1)

    def _quantiles(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The quantiles S, `(..., D)`, and w and Φ, `(..., components, D)`."""
        normal = self.component_distribution.base_dist
        z = z.unsqueeze(-2)
        log_n = normal.log_prob(z)
        before = pad(log_n.cumsum(-1)[..., :-1], (1, 0))  # over j < d; a difference of sums loses digits if σ is small
        weights = (self.mixture_distribution.logits.unsqueeze(-1) + before).softmax(-2)
        Φ = normal.cdf(z)
        return (weights * Φ).sum(-2), weights, Φ

    def _jacobian(self, z: Tensor, quantiles: Tensor, weights: Tensor, Φ: Tensor) -> Tensor:
        normal = self.component_distribution.base_dist
        G = -(z.unsqueeze(-2) - normal.loc) / normal.scale.square()
        below = (weights * (Φ - quantiles.unsqueeze(-2))).mT @ G
        return below.tril(-1) + (weights * normal.log_prob(z.unsqueeze(-2)).exp()).sum(-2).diag_embed()
