"""The variational Rényi bound."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.objectives.iwae import iwae_target
from ppl_vae.programs.scores import Terms, log_weight


class Renyi_ELBO(Objective):
    """L_α,K = E[1/(1 − α) log (1/K) Σ_k w_k^(1−α)], w_k = p(x, z_k)/q(z_k|x).

    Bound: for α ≥ 0 it is a lower bound on log p(x) at every K. α = 0 gives IWAE_K, α → 1 the ELBO, and α > 1 a value
    below the ELBO. For α < 0 the limit K → ∞ is an upper bound. But at finite K the value lies below that limit, on
    either side of log p(x): then it is no bound at all. With K = 1 it is the ELBO at every α. Value and gradient are
    unbiased for L_α,K, which itself approaches the Rényi bound L_α only as K → ∞. Gradient: by reparameterization. With
    a small α the guide covers the mass of the posterior; with a large α it seeks one mode. A site's scale is applied
    outside the logarithm.

    Raises:
        InputError: α is 1 (use `trace`) or not finite; a site is not reparameterized.

    Source: Li & Turner 2016.
    """

    name: ClassVar[str] = "renyi"

    def __init__(self, num_particles: int = 5, alpha: float = 0.5, **options: Any) -> None:
        super().__init__(num_particles, **options)
        if alpha == 1:
            raise InputError("renyi: alpha = 1 is the ELBO: use trace")
        if not math.isfinite(alpha):
            raise InputError(f"renyi: alpha is {alpha}: it must be finite")
        self.alpha = alpha
        self.target = f"VR_{num_particles}(α={alpha:g})" if alpha and num_particles > 1 else iwae_target(num_particles)

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        value = power_mean(log_weight(terms), 1 - self.alpha)
        return value, value


def power_mean(log_w: Tensor, s: float) -> Tensor:
    """1/s log (1/K) Σ_k w_k^s, the logarithm of the power mean of order s ≠ 0: `(K, B)` to `(B,)`.

    Let w_m be the weight whose power is the largest, and a = (1/K) Σ_k (w_k/w_m)^s − 1, which is in (−1, 0]. Then it is

        log w_m + 1/s log (1 + a).

    If s is small, so is a, and 1/s would multiply its rounding error: `expm1` and `log1p` keep the digits of a. If a is
    not small, a logsumexp is precise enough.
    """
    largest = (log_w.amax(0) if s > 0 else log_w.amin(0)).detach().clamp(min=torch.finfo(log_w.dtype).min)
    powers = s * (log_w - largest)
    a = powers.expm1().mean(0)
    near = a > -0.5
    far = powers.logsumexp(0) - math.log(len(log_w))
    return largest + torch.where(near, torch.where(near, a, 0.0).log1p(), far) / s
