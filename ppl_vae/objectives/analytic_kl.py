"""The analytic-KL ELBO: the rate in closed form, only the distortion by Monte Carlo."""

from typing import ClassVar

from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.objectives.base import Objective, need_paths
from ppl_vae.objectives.rate import closed_form
from ppl_vae.programs.scores import Terms, sum_sites


class AnalyticKL_ELBO(Objective):
    """ELBO = E_q[log p(x|z)] − Σ_site KL(q(z_site|·) ‖ p(z_site|·)), with the KL of `ppl_vae.distributions.kl`.

    Bound: the ELBO, estimated without bias. Gradient: by reparameterization. With several latent sites, the KL of a
    site is conditional on the draws before it. This is valid only if the guide has by then drawn everything that the
    site's prior depends on. The closed form removes the noise of log p(z) − log q(z|x). Part of this noise cancels
    against that of the likelihood: so near the exact posterior the *value* of `trace` has less noise than this one,
    while the guide's *gradient* usually has less noise here (docs/theory.md, section 4).

    Raises:
        InputError: a site has no closed-form KL (both distributions are named), is not reparameterized, or is drawn
            before a latent that its prior may depend on.

    Source: Kingma & Welling 2014, equation 7 and appendix B.
    """

    name: ClassVar[str] = "analytic-kl"
    warms_up: ClassVar[bool] = True

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        need_paths(terms, self.name)
        try:
            rate = sum_sites({site: terms.rows(site, closed_form(site, terms)) for site in terms.q})
        except InputError as error:
            raise InputError(f"{self.name}: {error}; use trace or mean-field") from error
        value = (sum_sites(terms.log_lik) - rate).mean(0)
        return value, value
