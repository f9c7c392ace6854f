"""The importance-weighted bound with the doubly reparameterized gradient."""

from typing import Any, ClassVar

import torch
from pyro.distributions.util import sum_rightmost
from torch import Tensor

from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.objectives.iwae import iwae_target, log_mean_exp
from ppl_vae.programs.scores import Fixed, Terms, log_weight, sum_sites


class DReG_ELBO(Objective):
    """∇_φ IWAE_K = E[Σ_k w̃_k² ∇_z log w(z_k) ∇_φ z_k], w̃ = w/Σw, with the φ inside log q held fixed.

    Bound: IWAE_K; its value is that of `iwae`, draw for draw. Gradient: unbiased. The guide's gradient flows along the
    path of each draw with the weight w̃_k²; the model's gradient is that of `iwae`, with the weight w̃_k. A parameter
    that is reached in both ways (of a prior that uses the encoder, or of a Delta) gets each part with its own weight.
    A draw whose log q is masked has no score, so that its path has the weight w̃_k. The guide's signal-to-noise ratio
    grows as √K if w has finite moments, that is, for a guide wider than the posterior; for a narrower guide it can fall
    (docs/estimators.md). With K = 1 this is `sticking-the-landing`.

    With several latent sites the guide is run a second time.

    Raises:
        InputError: a site is not reparameterized, or its density can't be computed at a fixed draw.

    Source: Tucker, Lawson, Gu & Maddison 2019.
    """

    name: ClassVar[str] = "dreg"
    reference: ClassVar[int | None] = 5

    def __init__(self, num_particles: int = 5, **options: Any) -> None:
        super().__init__(num_particles, **options)
        self.target = iwae_target(num_particles)

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        log_w, fixed = log_weight(terms), terms.at_fixed_draws()
        weights = log_w.detach().softmax(0)
        log_p = weights * (sum_sites(terms.log_lik) + sum_sites(terms.log_prior))
        points = _by_parameters(terms, fixed, weights, log_p)
        terms.weight_paths(weights)
        log_q = sum_sites(terms.log_q) - sum_sites(fixed.log_q)
        return log_mean_exp(log_w), (log_p - weights.square() * log_q + points).sum(0)


def _by_parameters(terms: Terms, fixed: Fixed, weights: Tensor, log_p: Tensor) -> Tensor:
    """What points (Deltas) add to the surrogate, `(K, B)`.

    A point is f_φ(u), of draws u and of parameters φ. What reaches φ by way of u has the weight w̃², what reaches φ
    directly has the weight w̃. The path of the point as a whole is weighted by w̃². At fixed draws the point depends on φ
    alone: this part gets the rest, w̃ − w̃². So does the log-density of the point, which the sum of log q at fixed draws
    counts as a score.
    """
    found = torch.zeros_like(log_p)
    for site in terms.points:
        found = found - weights * fixed.log_q[site]
        z = terms.seen[site]
        if log_p.requires_grad and z.requires_grad:
            (slope,) = torch.autograd.grad(log_p.sum(), z, retain_graph=True)
            spread = terms.layouts[site].spread(1 - weights, terms.q[site])
            along = (spread * slope).detach() * fixed.points[site]
            found = found + terms.rows(site, sum_rightmost(along, terms.q[site].event_dim))
    return found
