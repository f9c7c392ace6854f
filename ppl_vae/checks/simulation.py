"""The model can be sampled without data: of what it observes it knows the size alone."""

from collections.abc import Iterator

import torch
from pyro import poutine
from pyro.distributions import Distribution, ExpandedDistribution, Independent, MaskedDistribution, Unit
from torch import Tensor

from ppl_vae.checks.subject import Finding, Subject, differ, samples
from ppl_vae.programs import simulate
from ppl_vae.programs.state import buffers_kept
from ppl_vae.programs.terms import Batch, Values


def simulates(s: Subject) -> Iterator[Finding]:
    """z ~ p(z), x ~ p(x|z) runs, and draws as the data is shaped."""
    try:
        values = simulate(s.pair.model, s.probe)
    except Exception as error:
        yield s.failure("the model can't be sampled without data", error)
        return
    observed = {name: site["value"] for name, site in samples(s.trace("model", s.probe)) if site["is_observed"]}
    for name in values.keys() & observed.keys():
        if values[name].shape != observed[name].shape:
            yield s.error(
                f"site {name!r}: a draw is {tuple(values[name].shape)}, the data {tuple(observed[name].shape)}", name
            )


def peeks(s: Subject) -> Iterator[Finding]:
    """At the same z, p(z) and p(x|z) stay what they are when the values of x change."""
    guide = s.trace("guide", s.probe)
    for field in range(len(s.probe)):
        batch = tuple(
            _replaced(x, y) if i == field else x for i, (x, y) in enumerate(zip(s.probe, s.other, strict=True))
        )
        seen, changed = (dict(samples(s.trace("model", each, guide))) for each in (s.probe, batch))
        observing = {
            name
            for name, site in seen.items()
            if site["is_observed"] and not torch.equal(site["value"], changed[name]["value"])
        }
        if not observing:  # given, never observed: the model may read it
            continue
        values = {name: seen[name]["value"] for name in seen if seen[name]["is_observed"]}
        before, after = (_given(s, each, guide, values) for each in (s.probe, batch))
        for name, site in before.items():
            fn, other = (_unmasked(each[name]["fn"]) for each in (before, after))
            if isinstance(fn, Unit) or not differ(fn.log_prob(site["value"]), other.log_prob(site["value"])):
                continue
            if name in seen and not seen[name]["is_observed"]:
                yield s.error(
                    f"site {name!r}: its prior changes with the values of x, which {_names(observing)} observes: "
                    "let p(z) read no more of x than its shape, or a field of its own that is not observed",
                    name,
                )
            elif name in observing:
                yield s.error(
                    f"site {name!r}: at one z, the parameters of p(x|z) change with the values of x that it observes: "
                    "compute them from z alone; what may be given, give as a field of its own that is not observed",
                    name,
                )
            else:
                yield s.warning(
                    f"site {name!r} reads the data that {_names(observing)} observes, so a simulation reads it too: "
                    "let it read what that pyro.sample returns",
                    name,
                )
            return


def _given(s: Subject, batch: Batch, guide: poutine.Trace, values: Values) -> dict[str, dict]:
    """The sites of the model at the guide's draws and at these values of x, whatever the batch holds."""
    torch.manual_seed(0)
    model = poutine.replay(poutine.condition(poutine.uncondition(s.pair.model), data=values), trace=guide)
    with torch.no_grad(), buffers_kept(s.pair.model):
        return dict(samples(poutine.trace(model).get_trace(*batch)))


def _replaced(x: Tensor, other: Tensor) -> Tensor:
    """The values of `other`, with the missing cells of `x`."""
    return torch.where(x.isnan() | other.isnan(), x, other)


def _unmasked(fn: Distribution) -> Distribution:
    """A mask may well depend on x."""
    if isinstance(fn, MaskedDistribution):
        return _unmasked(fn.base_dist)
    if isinstance(fn, Independent):
        return _unmasked(fn.base_dist).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, ExpandedDistribution):
        return _unmasked(fn.base_dist).expand(fn.batch_shape)
    return fn


def _names(sites: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(sites))
