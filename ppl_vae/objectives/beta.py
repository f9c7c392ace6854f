"""The β-weighted ELBO: the rate counts β times."""

from typing import Any, ClassVar

from torch import Tensor

from ppl_vae.core.errors import at_least
from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.objectives.rate import rates_of
from ppl_vae.programs.scores import Terms, sum_sites


class Beta_ELBO(Objective):
    """E_q[log p(x|z)] − β KL(q(z|x) ‖ p(z)), with the KL as in `mean-field`.

    Bound: none to measure a model by, unless β = 1, where it is the ELBO. For β > 1 it lies (β − 1) KL below the ELBO.
    For β < 1 it lies above the ELBO, and may exceed log p(x). Its own value is estimated without bias, and `fit`
    reports the ELBO beside it. Gradient: by reparameterization. β > 1 asks for a smaller rate and a latent closer to
    the prior; β < 1 works against the collapse of the posterior. A Gaussian likelihood with variance σ² has the same
    optimum as one with variance βσ² at β = 1, for the two objectives differ by a factor and by constants
    (docs/theory.md, section 6).

    Raises:
        InputError: β is not a finite number ≥ 0; a site is not reparameterized.

    Source: Higgins et al. 2017; Alemi et al. 2018.
    """

    name: ClassVar[str] = "beta"
    warms_up: ClassVar[bool] = True

    def __init__(self, num_particles: int = 1, beta: float = 4.0, **options: Any) -> None:
        super().__init__(num_particles, **options)
        at_least(0, self.name, beta=beta)
        self.beta = beta
        self.target = "ELBO" if beta == 1 else f"β-ELBO(β={beta:g})"

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        rates, _ = rates_of(terms)
        value = (sum_sites(terms.log_lik) - self.beta * sum_sites(rates)).mean(0)
        return value, value

    def how(self, terms: Terms) -> dict[str, str]:
        return rates_of(terms)[1]
