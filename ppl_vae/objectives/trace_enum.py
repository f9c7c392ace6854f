"""The ELBO with its discrete latents summed over their values, and the others drawn."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ppl_vae.objectives.base import Objective, Pass
from ppl_vae.objectives.enumeration import enumerated_terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, log_weight, sum_sites


class TraceEnum_ELBO(Objective):
    """ELBO = E_z Σ_y q(y|·) [log p(x, y, z) − log q(y, z|x)], y over every value of the discrete sites, z drawn.

    Bound: the ELBO, exactly where all sites are discrete, and else estimated without bias. Gradient: likewise, along
    the draws of reparameterized sites. A pass takes each row once per value; with several discrete sites, per
    combination of values. A site that is drawn before another is summed over is drawn once for all its values. Pyro's
    `TraceEnum_ELBO` can also sum over independent sites apart, and over sites of the model alone; where both apply they
    agree. A label that is known for some rows alone is a site with `obs=` and `obs_mask=` in the model, of which the
    guide draws `…_unobserved` (`models/semi_supervised.py`).

    Args:
        num_particles: how often what is drawn is drawn, for each row and combination.

    Raises:
        InputError: a site of the guide has neither a list of its values nor a reparameterized draw, or is discrete in
            an inner plate; no site is discrete; too many values.

    Source: for semi-supervised models, Kingma, Rezende, Mohamed & Welling 2014.
    """

    name: ClassVar[str] = "trace-enum"

    def __init__(self, num_particles: int = 1, **options: Any) -> None:
        super().__init__(num_particles, **options)

    def estimate(self, model: ProgramLike, guide: ProgramLike, batch: Batch) -> Pass:
        t = enumerated_terms(model, guide, batch, self.num_particles)
        return Pass(*self.per_example(t), t)

    def expect(self, terms: Terms, x: Tensor) -> Tensor:
        summed = {site: log_q for site, log_q in terms.score_function.items() if not terms.q[site].has_rsample}
        q = sum_sites(summed).exp()  # without masks: a masked site is drawn all the same
        return (q * torch.where(q > 0, x, 0)).sum(0) / self.num_particles

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        value = self.expect(terms, log_weight(terms))
        return value, value
