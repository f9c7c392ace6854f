"""The guide reads x, the model reads z, and gradients flow from the model to the guide."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_vae.checks.subject import Finding, Subject
from ppl_vae.programs import Terms, score
from ppl_vae.programs.scores import Values, sum_sites
from ppl_vae.programs.state import evaluating


def reads(s: Subject) -> Iterator[Finding]:
    """Check what the programs read: what reads a number changes with it, even if only in its last bit.

    It is checked after some steps of training, since the weights of a layer may be 0 at the start.
    """
    if not s.unscorable:
        with evaluating(s.pair.model, s.pair.guide):
            yield from _reads_x(s)
            yield from _reads_z(s)
            yield from _reads_masked(s)


def _reads_x(s: Subject) -> Iterator[Finding]:
    """log q(z|x) changes with x."""
    values = s.draw(s.probe)
    a, b = (s.score(batch, values) for batch in (s.probe, s.other))
    same_data = all(torch.equal(x, y) for x, y in zip(s.probe, s.other, strict=True))
    if not same_data and all(torch.equal(a.log_q[site], b.log_q[site]) for site in a.log_q):
        site = next(iter(a.log_q))
        yield s.warning(
            f"site {site!r}: log q(z|x) is the same for every x: let the guide's network read x", site, "guide"
        )


def _reads_z(s: Subject) -> Iterator[Finding]:
    """Another site of the model reads each latent, and gradients reach the latent if it is reparameterized."""
    values, others = s.draw(s.probe), s.draw(s.probe, seed=1)
    reached = _reached(s, values)
    before = s.score(s.probe, values)
    for site in before.log_prior:
        moved = s.score(s.probe, values | {site: others[site]})
        read = not torch.equal(_rest(before, site), _rest(moved, site))
        if site in s.auxiliary:
            if read:
                yield s.error(
                    f"site {site!r}: the model reads its auxiliary draw, of r(u|x, z), so that it becomes a part of "
                    "p(x, z): let nothing read it, or leave is_auxiliary out",
                    site,
                )
        elif not read and not torch.equal(values[site], others[site]):
            yield s.error(
                f"site {site!r}: nothing in the model depends on its value: let a likelihood or a later prior read it",
                site,
            )
        elif read and before.q[site].has_rsample and site not in reached:
            yield s.error(
                f"site {site!r}: the rest of the model changes with it, but no gradient flows back to the guide: look "
                "for detach(), .data, no_grad, round or argmax between it and the likelihood",
                site,
            )


def _reads_masked(s: Subject) -> Iterator[Finding]:
    """No other site of the model reads what a mask leaves out of log q and log p(z)."""
    values, others = s.draw(s.probe), s.draw(s.probe, seed=1)
    before = s.score(s.probe, values)
    for site, counted in before.counted.items():
        if site not in before.log_prior:
            continue
        layout, q = before.layouts[site], before.q[site]
        counts = layout.lower(counted.expand(layout.lift(values[site], q).shape), q)
        moved = s.score(s.probe, values | {site: torch.where(counts, values[site], others[site])})
        if not torch.equal(_rest(before, site), _rest(moved, site)):
            yield s.error(
                f"site {site!r}: the model reads its value where it is masked, so that its rate is missing and the "
                "value can lie above log p(x): mask what reads it there too, or do not mask it",
                site,
            )


def _reached(s: Subject, values: Values) -> set[str]:
    """The latent sites at whose values the rest of the model has a gradient."""
    leaves = {site: v.clone().requires_grad_(v.is_floating_point()) for site, v in values.items()}
    t = score(s.pair.model, s.pair.guide, s.probe, leaves)
    reached = set()
    for site in t.log_prior:
        if (rest := _rest(t, site)).requires_grad and leaves[site].requires_grad:
            (grad,) = torch.autograd.grad(rest.sum(), leaves[site], retain_graph=True, allow_unused=True)
            if grad is not None and grad.any():
                reached.add(site)
    return reached


def _rest(t: Terms, site: str) -> Tensor:
    """The sum of log p over all sites but one, `(K, B)`."""
    return sum_sites({name: log_prob for name, log_prob in (t.log_prior | t.log_lik).items() if name != site})
