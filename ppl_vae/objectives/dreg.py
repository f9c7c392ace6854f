"""The importance-weighted bound with the doubly reparameterized gradient."""

from typing import ClassVar

from torch import Tensor

from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.objectives.iwae import iwae_target, log_mean_exp
from ppl_vae.programs.terms import Terms, log_weight, sum_sites


class DReG_ELBO(Objective):
    """∇_φ IWAE_K = E[Σ_k w̃_k² ∇_z log w(z_k) ∇_φ z_k], w̃ = w/Σw, the φ inside log q held fixed.

    Bound: IWAE_K; its value is that of `iwae`, draw for draw. Gradient: unbiased. The guide's comes along the path of
    each draw with weight w̃_k², the model's is that of `iwae`, w̃_k. A parameter that is reached both ways (a prior that
    uses the encoder) gets each by its way. The guide's signal-to-noise ratio grows as √K where w has finite moments,
    that is, for a guide wider than the posterior; for a narrower one it can fall (docs/estimators.md). K = 1 is
    sticking the landing.

    With several sites, those after the first cost a second pass through the guide.

    Raises:
        InputError: a site is not reparameterized, or its density is not known at a fixed draw.

    Source: Tucker, Lawson, Gu & Maddison 2019.
    """

    name: ClassVar[str] = "dreg"

    def __init__(self, num_particles: int = 5) -> None:
        super().__init__(num_particles)
        self.target = iwae_target(num_particles)

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        log_w = log_weight(terms)
        weights = log_w.detach().softmax(0)
        terms.weight_paths(weights)
        log_p = sum_sites(terms.log_lik) + sum_sites(terms.log_prior)
        log_q = sum_sites(terms.log_q) - sum_sites(terms.log_q_at_fixed_draws())
        return log_mean_exp(log_w), (weights * log_p - weights.square() * log_q).sum(0)
