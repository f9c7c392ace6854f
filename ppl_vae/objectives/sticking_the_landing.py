"""Sticking the landing: the Monte Carlo ELBO with a gradient that flows only along the path of the draw."""

from typing import ClassVar

from torch import Tensor

from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.programs.scores import Terms, log_weight, sum_sites


class StickingTheLanding_ELBO(Objective):
    """∇_φ ELBO = E_ε[∇_z log w(z) ∇_φ z], log w = log p(x, z) − log q_φ(z|x), with the φ inside log q held fixed.

    Bound: the ELBO; its value is that of `trace`, draw for draw. Gradient: unbiased, since the part that is left out,
    −∇_φ log q_φ(z|x) at a fixed draw, has mean zero. If q(z|x) = p(z|x), log w is constant in z, and the guide's
    gradient is zero for every draw: no noise is left. So it is useful near the posterior; far from it `trace` or
    `analytic-kl` can have less noise. A parameter that the prior shares with the guide keeps its gradient through
    log p. A Delta draws nothing: its log-density is no score, and keeps its gradient.

    With several latent sites the guide is run a second time.

    Raises:
        InputError: a site is not reparameterized, or its density can't be computed at a fixed draw.

    Source: Roeder, Wu & Duvenaud 2017.
    """

    name: ClassVar[str] = "sticking-the-landing"
    warms_up: ClassVar[bool] = True

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        log_w = log_weight(terms)
        scores = {site: log_q for site, log_q in terms.at_fixed_draws().log_q.items() if site not in terms.points}
        surrogate = log_w + sum_sites(scores)
        return log_w.mean(0), surrogate.mean(0)
