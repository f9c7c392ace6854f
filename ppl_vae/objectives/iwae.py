"""The importance-weighted bound."""

import math
from typing import Any, ClassVar

from torch import Tensor

from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.programs.scores import Terms, log_weight


class IWAE_ELBO(Objective):
    """IWAE_K = E[log (1/K) Σ_k w_k], w_k = p(x, z_k)/q(z_k|x), with K independent draws z_k ~ q(z|x).

    Bound: ELBO = IWAE_1 ≤ IWAE_K ≤ IWAE_K+1 ≤ log p(x), in expectation and not for each draw. The gap to log p(x) falls
    as 1/K if w has a finite variance. Value and gradient are unbiased for IWAE_K. Gradient: by reparameterization,
    Σ_k w̃_k ∇ log w_k with w̃ = w/Σw. A larger K helps the model. But the signal-to-noise ratio of the guide's gradient
    falls as 1/√K (Rainforth et al. 2018); `dreg` avoids this. A site's scale is applied outside the logarithm.

    Raises:
        InputError: a site is not reparameterized.

    Source: Burda, Grosse & Salakhutdinov 2016.
    """

    name: ClassVar[str] = "iwae"
    reference: ClassVar[int | None] = 4

    def __init__(self, num_particles: int = 5, **options: Any) -> None:
        super().__init__(num_particles, **options)
        self.target = iwae_target(num_particles)

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        value = log_mean_exp(log_weight(terms))
        return value, value


def log_mean_exp(log_w: Tensor) -> Tensor:
    """log (1/K) Σ_k exp(log w_k): `(K, B)` to `(B,)`."""
    return log_w.logsumexp(0) - math.log(log_w.shape[0])


def iwae_target(num_particles: int) -> str:
    """`IWAE_5` for K = 5, and `ELBO` for K = 1."""
    return "ELBO" if num_particles == 1 else f"IWAE_{num_particles}"
