"""The analytic-KL ELBO: the rate in closed form, only the distortion by Monte Carlo."""

from typing import ClassVar

from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.kl import NoClosedForm, kl
from ppl_vae.objectives.base import Objective
from ppl_vae.programs.terms import Terms, sum_sites


class AnalyticKL_ELBO(Objective):
    """ELBO = E_q[log p(x|z)] − Σ_site KL(q(z_site|·) ‖ p(z_site|·)), the KL from `ppl_vae.kl`.

    Bound: the ELBO, estimated without bias. Gradient: by reparameterization. With several latent sites the KL of a
    site is conditional on the draws before it, which is valid only where the guide draws in the model's order.
    It removes the noise of log p(z) − log q(z|x), and with it a part that cancels against the likelihood's: near the
    exact posterior the *value* of `trace` is the quieter one, while the guide's *gradient* usually stays quieter here
    (docs/theory.md, section 4).

    Raises:
        InputError: a site has no closed-form KL (both distributions are named), is not reparameterized, or the
            guide draws the sites in another order than the model.

    Source: Kingma & Welling 2014, equation 7 and appendix B.
    """

    target: ClassVar[str] = "ELBO"

    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        _same_order(terms)
        rate = sum_sites({site: terms.rows(site, _kl(site, terms)) for site in terms.q})
        value = (sum_sites(terms.log_lik) - rate).mean(0)
        return value, value


def _kl(site: str, terms: Terms) -> Tensor:
    if site not in terms.p:
        raise InputError(f"analytic-kl: site {site!r} is the guide's alone, so its KL is not defined; use trace")
    if site in terms.score_function:
        raise InputError(f"analytic-kl: the guide's site {site!r} has no reparameterized draw (rsample); use trace")
    try:
        return kl(terms.q[site], terms.p[site])
    except NoClosedForm as error:
        raise InputError(f"analytic-kl: site {site!r}: {error}; use trace") from error


def _same_order(terms: Terms) -> None:
    model, guide = list(terms.log_prior), list(terms.log_q)
    if model != guide and set(model) == set(guide):
        raise InputError(
            f"analytic-kl: the guide draws {', '.join(guide)} but the model {', '.join(model)}: a site's KL is only "
            "valid given the draws its prior depends on; draw in the model's order, or use trace"
        )
