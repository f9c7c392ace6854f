"""The same seed gives the same result, and K samples per row give what K passes would give."""

from collections.abc import Iterator

import torch

from ppl_vae.checks.rounding import told_from_rounding
from ppl_vae.checks.subject import KINDS, OTHER_SHAPE, Finding, Subject, aligned, differ
from ppl_vae.programs import terms
from ppl_vae.programs.state import buffers_kept, evaluating

SAMPLES = 3


def seeds(s: Subject) -> Iterator[Finding]:
    """Two seeds leave the generator in two states: no program sets a seed itself."""
    for kind in KINDS:
        states = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            with buffers_kept(s.pair.model, s.pair.guide):
                s.trace(kind, s.probe)
            states.append(torch.get_rng_state())
        if torch.equal(*states):
            message = (
                f"the {kind} seeds the generator, so that every step gets the same noise: seed before fit, not in it"
            )
            yield Finding("error", message, where=s.files.get(kind))


def deterministic(s: Subject) -> Iterator[Finding]:
    """Two passes with the same seed agree, in every draw and at every site."""
    passes = []
    for _ in range(2):
        torch.manual_seed(0)
        with torch.no_grad(), buffers_kept(s.pair.model, s.pair.guide):
            passes.append(terms(s.pair.model, s.pair.guide, s.probe))
    a, b = passes
    for kind, site, x, y in aligned(a, b):
        if differ(x, y) or (kind == "guide" and differ(a.values[site], b.values[site])):
            yield s.error(
                f"site {site!r} of the {kind}: two passes with the same seed differ. Draw with pyro.sample or torch, "
                "not with random or numpy.random, and let nothing depend on a counter or a clock",
                site,
                kind,
            )
            return


def scorable(s: Subject) -> Iterator[Finding]:
    """log q can be computed at a given draw, as many of the checks do."""
    if s.unscorable:
        failure = s.failure("log q can't be computed at a given draw, as behind a flow without inverse", s.unscorable)
        message = f"{failure.message}. The pair trains, but it was not checked whether rows and samples are kept apart"
        yield Finding("warning", message, failure.site, failure.where)


def many_samples(s: Subject) -> Iterator[Finding]:
    """Several samples per row, as multi-sample objectives and `export` use them, are each scored as if alone."""
    if s.unscorable:
        return
    if s.noisy:
        site, kind = s.noisy
        yield s.warning(
            f"site {site!r} of the {kind}: its log-probability at the same draw changes with the seed in evaluation "
            "mode: there is noise outside pyro.sample. Make it a site, or give F.dropout training=self.training",
            site,
            kind,
        )
        return
    with evaluating(s.pair.model, s.pair.guide):
        try:
            values = s.draw(s.probe, SAMPLES)
            together = s.score(s.probe, values)
        except Exception as error:
            failure = s.failure(f"the pair fails with {SAMPLES} samples per row", error, hints={})
            yield Finding(
                "warning",
                f"{failure.message}. Networks get (K, B, ...): work on the last dimensions, with x.flatten(-2) or "
                "unflatten(-1, ...); or, as for a convolution, say `vectorized = False` in the class",
                failure.site,
                failure.where,
            )
            return
        for k in range(SAMPLES):
            own = {site: v[k : k + 1] for site, v in values.items()}
            alone = s.score(s.probe, own)
            for kind, site, x, y in aligned(together, alone):
                if differ(x[k], y[0], OTHER_SHAPE):
                    row = (x[k] - y[0]).abs().nan_to_num(torch.inf).argmax()
                    found = (
                        f"site {site!r} of the {kind}: with {SAMPLES} samples per row, one is scored {x[k, row]:.6g}, "
                        f"by itself {y[0, row]:.6g}"
                    )
                    faults = (
                        f"{found}. Networks get (K, B, ...): work on the last dimensions, or say "
                        "`vectorized = False` in the class"
                    )
                    yield from told_from_rounding(s, s.probe, own, site, kind, (x[k : k + 1] - y).abs(), found, faults)
                    return
