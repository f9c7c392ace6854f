"""The ELBO with the rate of each site in closed form where there is one, and by Monte Carlo where there is none."""

from typing import ClassVar

from torch import Tensor

from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.objectives.rate import rates_of
from ppl_vae.programs.scores import Terms, sum_sites


class MeanField_ELBO(Objective):
    """ELBO = E_q[log p(x|z) − Σ_s KL_s − Σ_r (log q(z_r|·) − log p(z_r|·))], s with a closed form, r without.

    Bound: the ELBO, estimated without bias. Gradient: by reparameterization. If every site has a closed form this is
    `analytic-kl`; if no site has one it is `trace`. A closed form is used only if the guide has by then drawn every
    latent that the site's prior may depend on. In a bottom-up guide of a hierarchy this is so at the top only. `how`
    says for each site which of the two was used and why; `fit` and `compare` print it. It is useful in hierarchies, and
    where one prior of several is a mixture or a flow.

    Raises:
        InputError: a site is not reparameterized.

    Source: Kingma & Welling 2014. Pyro's `TraceMeanField_ELBO` does this too, but does not say where it samples.
    """

    name: ClassVar[str] = "mean-field"
    reference: ClassVar[int | None] = 2
    warms_up: ClassVar[bool] = True

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        rates, _ = rates_of(terms)
        value = (sum_sites(terms.log_lik) - sum_sites(rates)).mean(0)
        return value, value

    def how(self, terms: Terms) -> dict[str, str]:
        return rates_of(terms)[1]
