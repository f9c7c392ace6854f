"""The ELBO with a floor under the rate of each latent dimension."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.objectives.rate import by_dimension
from ppl_vae.programs.scores import Terms, sum_sites


class FreeBits_ELBO(Objective):
    """E_q[log p(x|z)] − Σ_j max(λ, KL_j), where KL_j is the rate of latent dimension j, averaged over the batch.

    Bound: none to measure a model by, unless λ = 0, where it is the ELBO. It adds up to λ nats per dimension to the
    rate, and depends on which rows share a batch; `fit` reports the ELBO beside it. A dimension whose rate is below λ
    gets no gradient from the rate, so that its first λ nats are free. This works against the collapse of the posterior.
    Gradient: by reparameterization. The KL is always the closed form.

    For a dimension below the floor `per_example` counts λ in every row, and for the others the row's own KL_j. The mean
    over the batch is then the formula above.

    Args:
        num_particles: K, the number of samples per example.
        floor: λ, in nats per latent dimension.

    Raises:
        InputError: λ is not a finite number ≥ 0; a site has no closed-form KL that is a sum over its dimensions, is
            drawn before a latent that its prior may depend on, or is not reparameterized.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016, appendix C.8.
    """

    name: ClassVar[str] = "free-bits"
    warms_up: ClassVar[bool] = True
    of_batch: ClassVar[bool] = True

    def __init__(self, num_particles: int = 1, floor: float = 0.1, **options: Any) -> None:
        super().__init__(num_particles, **options)
        at_least(0, self.name, floor=floor)
        self.floor = floor
        self.target = "ELBO" if floor == 0 else f"free-bits(λ={floor:g})"

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        try:
            rate = torch.cat([by_dimension(site, terms) for site in terms.q], -1)
        except InputError as error:
            raise InputError(f"{self.name}: {error}; use trace or beta") from error
        below = self.mean_of_batch(rate) < self.floor
        charged = torch.where(below, self.floor, rate).sum(-1)
        value = (sum_sites(terms.log_lik) - charged).mean(0)
        return value, value
