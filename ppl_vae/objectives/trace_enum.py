"""The ELBO as a sum over the values of the discrete latents; the other latents are drawn."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ppl_vae.objectives.base import Objective, Pass
from ppl_vae.objectives.enumeration import enumerated_terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, log_weight, sum_sites


class TraceEnum_ELBO(Objective):
    """ELBO = E_z Σ_y q(y|·) [log p(x, y, z) − log q(y, z|x)], a sum over every value y of the discrete sites; z is
    drawn.

    Bound: the ELBO. It is exact if all sites are discrete, else it is estimated without bias. Gradient: exact or
    unbiased likewise, along the draws of reparameterized sites. A pass scores each row once per value or, with several
    discrete sites, once per combination of values. A site that is drawn before a discrete site is drawn once for all
    values of that site. Pyro's `TraceEnum_ELBO` can also sum over independent sites separately, and over sites that
    only the model has; where both objectives apply they agree. A label that is known only for some rows is a site with
    `obs=` and `obs_mask=` in the model, and the guide draws its `…_unobserved` (`models/semi_supervised.py`).

    Args:
        num_particles: how often each reparameterized site is drawn, for each row and combination.

    Raises:
        InputError: a site of the guide has neither a list of its values nor a reparameterized draw, or is discrete in
            an inner plate; no site is discrete; there are too many values.

    Source: for semi-supervised models, Kingma, Rezende, Mohamed & Welling 2014.
    """

    name: ClassVar[str] = "trace-enum"
    warms_up: ClassVar[bool] = True

    def __init__(self, num_particles: int = 1, **options: Any) -> None:
        super().__init__(num_particles, **options)

    def estimate(self, model: ProgramLike, guide: ProgramLike, batch: Batch) -> Pass:
        t = enumerated_terms(model, guide, batch, self.num_particles)
        return Pass(*self.per_example(t), t)

    def expect(self, terms: Terms, x: Tensor) -> Tensor:
        summed = {site: log_q for site, log_q in terms.score_function.items() if not terms.q[site].has_rsample}
        q = sum_sites(summed).exp()  # without masks: a masked site is drawn like any other
        return (q * torch.where(q > 0, x, 0)).sum(0) / self.num_particles

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        value = self.expect(terms, log_weight(terms))
        return value, value
