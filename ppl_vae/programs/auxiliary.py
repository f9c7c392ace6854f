"""Auxiliary draws of the guide, which are no latent of the model: the check that a bound with them is valid.

An auxiliary draw u ~ q(u|x) puts log q(u|x) into the weight, and the model has no term to balance it. There are two
valid forms:

- *A change of variables.* A latent follows from u, `pyro.sample("z", Delta(f(u), log_density=−log |det ∂f/∂u|))`, where
  f is one-to-one. Then log q(z|x) = log q(u|x) − log |det ∂f/∂u|, and the weight is that of z.
- *An auxiliary model.* The model has a site of the same name, `pyro.sample("u", r(u|x, z), infer={"is_auxiliary":
  True})`. Since r integrates to 1, log p(x) stays the same, and E_q[log p(x, z) + log r(u|x, z) − log q(z, u|x)] is a
  bound on it: the ELBO minus E KL(q(u|x, z) ‖ r(u|x, z)) (Ranganath, Tran & Blei 2016; Maaløe et al. 2016).
"""

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from pyro import poutine
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import is_point
from ppl_vae.programs.layout import DATA, Layout, owner, samples
from ppl_vae.programs.state import buffers_kept

TOLERANCE = 1e-3

_sound: WeakKeyDictionary[Any, tuple[set[str], set[str]]] = WeakKeyDictionary()


def check_change_of_variables(
    guide: Callable[..., Any], batch: tuple[Any, ...], auxiliary: set[str], keywords: Mapping[str, Any] | None = None
) -> set[str]:
    """Compare −log |det ∂f/∂u| with the log-density that the guide's points state, on this batch, once for each guide.

    Args:
        auxiliary: the guide's sites u that the model does not have.
        keywords: keyword arguments that the guide is called with.

    Returns:
        The latents that follow from the auxiliary sites.

    Raises:
        InputError: no latent follows from them one-to-one, or the stated log-density is not −log |det ∂f/∂u|.
    """
    checked, followers = _sound.get(guide, (set(), set()))
    if checked == auxiliary:
        return followers
    names = ", ".join(map(repr, sorted(auxiliary)))
    points, J = _derivatives(lambda: guide(*batch, **(keywords or {})), owner(guide), auxiliary)
    followers = {name for name in points if J[name].any()}
    whole = torch.cat([J[name] for name in followers], 1) if followers else torch.zeros(1, 0, 1)
    if whole.shape[1] != whole.shape[2]:
        raise InputError(
            f"the guide's auxiliary draw {names} has no counterpart in the model, so log q of it is not balanced and "
            "the value is no bound: give the model an auxiliary site of that name, r(u|x, z), or let a latent follow "
            "from it one-to-one, as Delta(f(u), log_density=−log|det ∂f/∂u|)"
        )
    found = -torch.linalg.slogdet(whole).logabsdet
    stated = torch.stack([points[name] for name in followers]).sum(0)
    if not torch.allclose(found, stated, rtol=TOLERANCE, atol=TOLERANCE * whole.shape[1]):
        worst = (found - stated).abs().nan_to_num(torch.inf).argmax()
        site = next(iter(followers))
        raise InputError(
            f"site {site!r}: the Delta has log_density {stated[worst]:.4g}, but −log|det ∂f/∂u| of the "
            f"change of variables from {names} is {found[worst]:.4g}: give the Delta this log_density"
        )
    _sound[guide] = auxiliary, followers
    return followers


def _derivatives(
    program: Callable[[], Any], guide: Any, auxiliary: set[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The log-density of each point of the guide, `(B,)`, and its Jacobian by the auxiliary draws, `(B, n, m)`.

    If a site is outside the plate `data`, as in a guide for any Pyro model, everything counts as one row.
    """
    with torch.random.fork_rng(), torch.enable_grad(), poutine.block(), buffers_kept(guide):
        drawn = poutine.trace(program).get_trace()
        for name, site in list(samples(drawn)):
            if is_point(site["fn"]):
                drawn.remove_node(name)  # it follows anew from the draws
            else:
                site["value"] = site["value"].detach().clone().requires_grad_(name in auxiliary)
        sites = dict(samples(poutine.trace(poutine.replay(program, trace=drawn)).get_trace()))
        points = {name: site for name, site in sites.items() if is_point(site["fn"])}
        draws = {name: sites[name] for name in auxiliary}
        rows = all(any(f.name == DATA for f in s["cond_indep_stack"]) for s in (points | draws).values())
        densities, J = {}, {}
        for name, site in points.items():
            log_density = site["fn"].log_prob(site["value"]).detach()
            densities[name] = Layout(1, False, 0).at(site).rows(log_density)[0] if rows else log_density.sum()[None]
            numbers = _by_row(site["value"], site, rows)
            J[name] = torch.stack([_slopes(number.sum(), draws, rows) for number in numbers.T], 1)
    return densities, J


def _slopes(number: Tensor, draws: dict[str, dict], rows: bool) -> Tensor:
    """The derivatives of a number that is summed over rows, by the m numbers of each row's draws: `(B, m)`."""
    values = [site["value"] for site in draws.values()]
    found = [torch.zeros_like(value) for value in values]
    if number.requires_grad:
        found = list(torch.autograd.grad(number, values, retain_graph=True, allow_unused=True, materialize_grads=True))
    return torch.cat([_by_row(g, site, rows) for g, site in zip(found, draws.values(), strict=True)], 1)


def _by_row(value: Tensor, site: dict, rows: bool) -> Tensor:
    """A site's value as `(B, n)`."""
    if not rows:
        return value.reshape(1, -1)
    layout = Layout(1, False, 0).at(site)
    value = layout.rows_first(layout.lower(value, site["fn"]), site["fn"])[0]
    return value.reshape(len(value), -1)
