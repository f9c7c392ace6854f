"""A normal of low rank that keeps the digits of its density."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor


class LowRank(dist.LowRankMultivariateNormal):
    """Torch's low-rank normal, with a density that keeps its digits where F is large compared with σ.

    With y = (z − μ)/σ, A = F/σ (row by row) and C = I + AᵀA, torch computes ‖y‖² − yᵀA C⁻¹ Aᵀy, a difference of two
    numbers that can be 10⁶ times as large as the result. The result is also the minimum of a least-squares problem.
    This is a sum of squares, and its derivative in a is 0 at the minimum, so that rounding of a hardly matters:

        (z − μ)ᵀ Σ⁻¹ (z − μ) = min_a ‖y − A a‖² + ‖a‖²,    at a = C⁻¹ Aᵀ y.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        L, σ = self._capacitance_tril, self._unbroadcasted_cov_diag.sqrt()
        A, y = self._unbroadcasted_cov_factor / σ.unsqueeze(-1), ((value - self.loc) / σ).unsqueeze(-1)
        a = torch.cholesky_solve(A.mT @ y, L)
        squares = (y - A @ a).square().sum((-2, -1)) + a.square().sum((-2, -1))
        log_det = 2 * σ.log().sum(-1) + 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -(squares + log_det + self.event_shape[0] * math.log(2 * math.pi)) / 2
