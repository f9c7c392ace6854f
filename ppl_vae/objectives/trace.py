"""The Monte Carlo ELBO: Pyro's own `Trace_ELBO`, which also gives its terms."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pyro.infer
from torch import Tensor

from ppl_vae.distributions.wrappers import own_masks
from ppl_vae.objectives.base import Objective, Pass, need_paths
from ppl_vae.programs.auxiliary import check_change_of_variables
from ppl_vae.programs.layout import layout_of, samples
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, log_weight
from ppl_vae.programs.sites import score_function


class Trace_ELBO(pyro.infer.Trace_ELBO, Objective):
    """ELBO = E_q[log p(x|z) + log p(z) − log q(z|x)], where the mean of K draws replaces the expectation.

    Bound: the ELBO, estimated without bias. Gradient: by reparameterization, z = g(ε, x), if the guide's distribution
    has `rsample`. Else by the score function, E_q[(log p(x,z) − log q(z|x)) ∇ log q(z|x)], where the weight is the
    log-ratio of one example and one draw (the plate `data` makes the examples independent).

    `loss`, `loss_and_grads` and `differentiable_loss` *are* Pyro's. `estimate` gives the same value and the same
    gradients per example, with one exception: for a site without `rsample` in an inner plate, Pyro leaves the other
    elements of that plate out of the weight. Where a distribution without `rsample` is masked by `False` or under
    `to_event`, Pyro's gradient is biased; this one is not.

    Source: Kingma & Welling 2014; Wingate & Weber 2013; Ranganath et al. 2014.
    """

    name: ClassVar[str] = "trace"
    reference: ClassVar[int | None] = 1
    warms_up: ClassVar[bool] = True

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        log_ratio = log_weight(terms)
        surrogate = log_ratio
        for site, score in terms.score_function.items():
            surrogate = surrogate + log_ratio.detach() * score
            if not terms.q[site].has_rsample:  # then E_q ∇ log q = 0, and Pyro leaves it out
                surrogate = surrogate + terms.log_q[site]
        value = log_ratio.mean(0)
        return value, value if surrogate is log_ratio else surrogate.mean(0)

    def weighted(self, seen: Pass, weight: float | Tensor) -> Pass:
        need_paths(seen.terms, "a warm-up")
        return super().weighted(seen, weight)

    def _get_traces(self, model: ProgramLike, guide: ProgramLike, args: Batch, kwargs: dict[str, Any]) -> Iterator:
        """As in Pyro, but the search for plates uses no random numbers, and a convolution gets repeated rows."""
        layout = layout_of([model, guide], args, self.num_particles, keywords=kwargs, max_nesting=self.max_nesting)
        vectorized = layout.vectorized and self.vectorize_particles
        self.max_plate_nesting = layout.nesting + 1 if vectorized else self.max_nesting
        get_trace = self._get_vectorized_trace if vectorized else self._get_trace
        passes = 1 if vectorized or layout.repeat else self.num_particles
        for _ in range(passes):
            model_trace, guide_trace = get_trace(model, guide, layout.repeated(args), kwargs)
            for _, site in samples(guide_trace):
                if any(own_masks(site["fn"])):  # where Pyro's score function lacks the part that is masked
                    site["score_parts"] = site["score_parts"]._replace(score_function=score_function(site))
            own = {name for name, site in samples(guide_trace) if site["infer"].get("is_auxiliary")}
            if auxiliary := own - set(model_trace.nodes):
                check_change_of_variables(guide, args, auxiliary, kwargs)
            yield model_trace, guide_trace
