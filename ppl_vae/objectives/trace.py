"""The Monte Carlo ELBO: Pyro's own `Trace_ELBO`, with its terms in the open."""

from typing import ClassVar

import pyro.infer
from torch import Tensor

from ppl_vae.objectives.base import Objective
from ppl_vae.programs.terms import Terms


class Trace_ELBO(pyro.infer.Trace_ELBO, Objective):
    """ELBO = E_q[log p(x|z) + log p(z) − log q(z|x)], each expectation replaced by the mean of K draws.

    Bound: the ELBO, estimated without bias. Gradient: by reparameterization, z = g(ε, x), where the guide's
    distribution has `rsample`; else by the score function, E_q[(log p(x,z) − log q(z|x)) ∇ log q(z|x)], with the
    log-ratio of one example and one draw as the weight (the plate `data` makes the others independent).

    In `SVI` it *is* Pyro's estimator; `estimate` yields the same value and the same gradients per example.

    Source: Kingma & Welling 2014; Wingate & Weber 2013; Ranganath et al. 2014.
    """

    target: ClassVar[str] = "ELBO"

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        log_ratio = sum_sites(terms.log_lik) + sum_sites(terms.log_prior) - sum_sites(terms.log_q)
        surrogate = log_ratio
        for name, q in terms.q.items():
            if not q.has_rsample:
                # −log q has the expected gradient zero, and Pyro keeps it for a site that has no rsample
                surrogate = surrogate + log_ratio.detach() * terms.log_q[name]
        return log_ratio.mean(0), surrogate.mean(0)


def sum_sites(log_probs: dict[str, Tensor]) -> Tensor:
    """Σ over sites, `(K, B)`; 0 where there is none."""
    return sum(log_probs.values())  # type: ignore[return-value]
