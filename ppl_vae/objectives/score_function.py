"""The ELBO with the score-function gradient (REINFORCE), which needs no reparameterized draw."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ppl_vae.objectives.base import Objective
from ppl_vae.programs.scores import Terms, log_weight, sum_sites


class ScoreFunction_ELBO(Objective):
    """∇_φ ELBO = E_q[(log w − b) ∇_φ log q(z|x)], log w = log p(x, z) − log q(z|x), with every draw held fixed.

    Bound: the ELBO; its value is that of `trace`, draw for draw. Gradient: unbiased for any baseline b that does not
    depend on the draw, and for any guide that can be sampled and scored, discrete guides included. The model's gradient
    is that of `trace`. (The term −E_q ∇_φ log q = 0 is left out.) A Delta draws nothing and has no score, so that it
    keeps the gradients of its value and of its log-density. The estimator uses no slope of log w, and its variance is
    often larger by orders of magnitude. Use it where there is no reparameterized draw.

    Args:
        num_particles: K, the number of samples per example.
        baseline: if true, b is the mean of log w over the other K − 1 draws of the example ("leave one out"). With K =
            1 it is the mean over the other examples of the batch, which must then not depend on the example, as they do
            in a BatchNorm. If false, b = 0.

    Source: Williams 1992; Paisley, Blei & Jordan 2012; Ranganath et al. 2014. The baseline: Mnih & Rezende 2016;
    Kool, van Hoof & Welling 2019.
    """

    name: ClassVar[str] = "score-function"
    reference: ClassVar[int | None] = 3
    detached: ClassVar[bool] = True

    def __init__(self, num_particles: int = 1, baseline: bool = True, **options: Any) -> None:
        super().__init__(num_particles, **options)
        self.baseline = baseline

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        log_w = log_weight(terms)
        log_p = sum_sites(terms.log_lik) + sum_sites(terms.log_prior)
        weight = log_w.detach()
        if self.baseline:
            weight = weight - _leave_one_out(weight)
        points = sum_sites({site: terms.log_q[site] for site in terms.points})
        surrogate = log_p - points + weight * sum_sites(terms.score_function)
        return log_w.mean(0), surrogate.mean(0)


def _leave_one_out(log_w: Tensor) -> Tensor:
    """For each entry of `(K, B)`, the mean of the others in its column, or in its row if K = 1; 0 if there are none."""
    dim = 0 if log_w.shape[0] > 1 else 1
    others = log_w.shape[dim] - 1
    return (log_w.sum(dim, keepdim=True) - log_w) / others if others else torch.zeros_like(log_w)
