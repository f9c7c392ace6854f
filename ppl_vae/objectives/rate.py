"""The rate, KL(q ‖ p(z)), site by site: in closed form where that is valid, by Monte Carlo where it is not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.kl import NoClosedForm, kl
from ppl_vae.programs.scores import Terms


def closed_form(site: str, terms: Terms, form: Callable[[Any, Any], Tensor] = kl) -> Tensor:
    """KL(q(z_site|·) ‖ p(z_site|·)) given the draws before it, in the site's batch shape; a pass computes it once.

    Args:
        form: `kl`, or `kl_by_dimension`.

    Raises:
        InputError: the pair has no closed form, or `check_order` fails.
    """
    known = terms.closed_forms.get(site) if form is kl else None
    if known is not None and (known.requires_grad or not torch.is_grad_enabled()):
        return known
    check_order(site, terms)
    try:
        found = form(terms.q[site], terms.p[site])
    except NoClosedForm as error:
        raise InputError(f"site {site!r}: {error}") from error
    if form is kl:
        terms.closed_forms[site] = found
    return found


def check_order(site: str, terms: Terms) -> None:
    """A closed form averages over z_site alone, so nothing that its prior depends on may be drawn after it.

    In E_q[log q(z_s|·) − log p(z_s|parents)] the inner average over z_s given the guide's earlier draws is the KL only
    if those draws fix the parents. Every latent that the model draws before the site counts as a parent.

    Raises:
        InputError: the site is the guide's alone, or a parent is drawn after it.
    """
    if site not in terms.p:
        raise InputError(f"site {site!r} is the guide's alone, so its KL is not defined")
    model, guide = list(terms.log_prior), list(terms.log_q)
    late = set(model[: model.index(site)]) - set(guide[: guide.index(site)])
    if late:
        raise InputError(
            f"site {site!r}: the guide draws {', '.join(guide)} but the model {', '.join(model)}: a site's KL is only "
            "valid given the draws its prior depends on"
        )


def rates_of(terms: Terms) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each site's rate, `(K, B)`, in closed form or as log q − log p at the draw; and which, with the reason."""
    rates, how = {}, {}
    for site, log_q in terms.log_q.items():
        try:
            rates[site], how[site] = terms.rows(site, closed_form(site, terms)), "closed form"
        except InputError as error:
            rates[site] = log_q - terms.log_prior[site] if site in terms.log_prior else log_q
            how[site] = f"Monte Carlo ({str(error).removeprefix(f'site {site!r}: ')})"
    return rates, how
