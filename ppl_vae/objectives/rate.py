"""The rate KL(q ‖ p(z)) of each site: in closed form where that is valid, by Monte Carlo where it is not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.kl import kl, kl_by_dimension
from ppl_vae.programs.scores import Terms


def closed_form(site: str, terms: Terms, form: Callable[[Any, Any], Tensor] = kl) -> Tensor:
    """KL(q(z_site|·) ‖ p(z_site|·)) given the draws before it, in the site's batch shape.

    The KL of a pass is computed once and kept in `terms.closed_forms`.

    Args:
        form: `kl`, or `kl_by_dimension`.

    Raises:
        InputError: the pair has no closed form, or `check_order` fails. The message names the site.
    """
    try:
        return _closed_form(site, terms, form)
    except InputError as error:
        raise InputError(f"site {site!r}: {error}") from error


def _closed_form(site: str, terms: Terms, form: Callable[[Any, Any], Tensor]) -> Tensor:
    known = terms.closed_forms.get(site) if form is kl else None
    if known is not None and (known.requires_grad or not torch.is_grad_enabled()):
        return known
    check_order(site, terms)
    found = form(terms.q[site], terms.p[site])
    if form is kl:
        terms.closed_forms[site] = found
    return found


def by_dimension(site: str, terms: Terms) -> Tensor:
    """The KL of each of the J dimensions of a site, those of its inner plates included: `(K, B, J)`.

    Raises:
        InputError: as `closed_form`, or q or p does not factorize over the dimensions.
    """
    q = terms.q[site]
    rate = closed_form(site, terms, kl_by_dimension)
    batch_shape = terms.layouts[site].check(rate.shape[: rate.dim() - q.event_dim])
    rate = terms.by_row(site, rate.expand(batch_shape + q.event_shape))
    return rate.reshape(*rate.shape[:2], -1)


def check_order(site: str, terms: Terms) -> None:
    """Check that the guide has drawn everything that the site's prior may depend on before it draws the site.

    A closed form averages over z_site alone. In E_q[log q(z_s|·) − log p(z_s|parents)] the inner average over z_s,
    given the guide's earlier draws, is the KL only if those draws fix the parents. Every latent that the model draws
    before the site counts as a parent.

    Raises:
        InputError: only the guide has the site, or a parent is drawn after it.
    """
    if site not in terms.p:
        raise InputError("only the guide draws it, so that its KL is not defined")
    model, guide = list(terms.log_prior), list(terms.log_q)
    late = set(model[: model.index(site)]) - set(guide[: guide.index(site)])
    if late:
        raise InputError(
            f"the guide draws {', '.join(guide)} but the model {', '.join(model)}: the KL of a site is valid only if "
            "the guide draws before it whatever its prior depends on"
        )


def rates_of(terms: Terms) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The rate of each site, and how it was computed.

    Returns:
        Two dicts by site. The first holds the rate, `(K, B)`: the closed form, or log q − log p at the draw. The second
        says which of the two it is, and why, if it is not the closed form.
    """
    rates, how = {}, {}
    for site, log_q in terms.log_q.items():
        try:
            rates[site], how[site] = terms.rows(site, _closed_form(site, terms, kl)), "closed form"
        except InputError as error:
            rates[site] = log_q - terms.log_prior[site] if site in terms.log_prior else log_q
            how[site] = f"Monte Carlo ({error})"
    return rates, how
