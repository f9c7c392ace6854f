"""The model can be sampled without data: it uses only the size of what it observes."""

from collections.abc import Iterator

import torch
from pyro import poutine
from pyro.distributions import Unit
from torch import Tensor

from ppl_vae.checks.subject import Finding, Subject, same, samples
from ppl_vae.distributions.wrappers import unmasked
from ppl_vae.programs import simulate
from ppl_vae.programs.scores import Batch, Values
from ppl_vae.programs.state import buffers_kept


def simulates(s: Subject) -> Iterator[Finding]:
    """The model can draw z ~ p(z) and x ~ p(x|z), and a draw has the shape of the data."""
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
    """At the same z, p(z) and p(x|z) do not change when the values of an observed field change."""
    guide = s.trace("guide", s.probe)
    seen = dict(samples(s.trace("model", s.probe, guide)))
    for i, field in enumerate(s.dataset.fields):
        batch = (*s.probe[:i], _replaced(s.probe[i], s.other[i]), *s.probe[i + 1 :])
        moved = dict(samples(s.trace("model", batch, guide)))
        observing = [x for x in seen if seen[x]["is_observed"] and not same(seen[x]["value"], moved[x]["value"])]
        if not observing:  # the field is given and not observed: the model may read it
            continue
        whole = s.probe[i].numel() // len(s.probe[i])
        given = sum(seen[x]["value"].numel() for x in observing) // len(s.probe[i])
        if given < whole:
            yield s.warning(
                f"site {observing[0]!r} observes {given} of the {whole} numbers of a datum of {field!r}: the others "
                "are no part of log p(x). Observe them too, or give them as another field of the data",
                observing[0],
            )
        values = {x: site["value"] for x, site in seen.items() if site["is_observed"]}
        before, after = (_given(s, each, guide, values) for each in (s.probe, batch))
        if name := next((x for x in before if x not in s.auxiliary and _changes(before[x], after[x])), None):
            yield _peek(s, name, field, "prior" if name not in values else "own" if name in observing else "other")


def _peek(s: Subject, site: str, field: str, kind: str) -> Finding:
    if kind == "other":
        return s.warning(
            f"site {site!r} reads {field!r}, which another site observes, so a simulation would read the data: "
            "let it read the value that this pyro.sample returns",
            site,
        )
    what = "its prior changes" if kind == "prior" else "at one z, the parameters of p(x|z) change"
    fix = "read only its shape" if kind == "prior" else "compute them from z alone"
    return s.error(
        f"site {site!r}: {what} with the values of {field!r}, which the model observes: {fix}. What the model is given "
        "must be another field of the data, which no site observes",
        site,
    )


def _changes(site: dict, other: dict) -> bool:
    fn, other_fn = unmasked(site["fn"]), unmasked(other["fn"])
    return not isinstance(fn, Unit) and not same(fn.log_prob(site["value"]), other_fn.log_prob(site["value"]))


def _given(s: Subject, batch: Batch, guide: poutine.Trace, values: Values) -> dict[str, dict]:
    """The sites of the model at the guide's draws and at these values of x, which replace those of the batch."""
    torch.manual_seed(0)
    model = poutine.replay(poutine.condition(poutine.uncondition(s.pair.model), data=values), trace=guide)
    with torch.no_grad(), buffers_kept(s.pair.model):
        return dict(samples(poutine.trace(model).get_trace(*batch)))


def _replaced(x: Tensor, other: Tensor) -> Tensor:
    """The values of `other`, with the missing cells of `x`: NaN, or a code below 0."""
    missing = [each.isnan() if each.is_floating_point() else each < 0 for each in (x, other)]
    return torch.where(missing[0] | missing[1], x, other)
