"""Both programs run, their sites match, and every shape and scale is what a bound on log p(x) needs."""

import contextlib
from collections.abc import Iterator

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.checks.subject import KINDS, Finding, Subject, same, samples, shapes
from ppl_vae.programs import terms
from ppl_vae.programs.find import Kind
from ppl_vae.programs.layout import DATA


def values_stay(s: Subject) -> Iterator[Finding]:
    """Neither program changes its batch or a draw in place: the other one, and the next score, would get it too."""
    batch = tuple(x.clone() for x in s.probe)
    guide = None
    for kind in KINDS:
        kept = _Values()
        with contextlib.suppress(Exception), kept:
            guide = s.trace(kind, batch, guide)
        if not all(map(same, batch, s.probe)):
            message = f"the {kind} changes its batch in place: work on a copy (x = x.clone()), or use torch.where"
            yield Finding("error", message, where=s.files.get(kind))
            return
        for name, (value, drawn) in kept.seen.items():
            if not same(value, drawn):
                message = f"site {name!r}: the {kind} changes its value in place after pyro.sample: work on a copy"
                yield s.error(f"{message} (z = z.clone()), or on z + ..., z * ...", name, kind)
                return


def plates(s: Subject) -> Iterator[Finding]:
    """The plate `data` is as long as the batch: noted before a site in it fails."""
    for kind in KINDS:
        with contextlib.suppress(Exception), poutine.trace() as tracer:
            s.trace(kind, s.probe)
        node = tracer.trace.nodes.get(DATA)
        if node is not None and site_is_subsample(node):
            size = len(node["value"])
            if size != len(s.probe[0]):
                yield s.error(
                    f"the plate {DATA!r} of the {kind} is of size {size} for a batch of {len(s.probe[0])} rows: "
                    "make it x.shape[0]",
                    DATA,
                    kind,
                )


def runs(s: Subject) -> Iterator[Finding]:
    """Both programs run, on one row fewer too, and no event holds the rows."""
    for kind in KINDS:
        try:
            whole = dict(samples(s.trace(kind, s.probe)))
        except Exception as error:
            yield s.failure(f"the {kind} fails on {shapes(s.probe)}", error, kind)
            return
        if len(s.probe[0]) < 3:
            continue
        fewer = tuple(x[:-1] for x in s.probe)
        try:
            part = dict(samples(s.trace(kind, fewer)))
        except Exception as error:
            yield s.failure(f"the {kind} runs on {shapes(s.probe)} but fails on {shapes(fewer)}", error, kind)
            return
        for name in whole.keys() & part.keys():
            a, b = (tuple(each[name]["fn"].event_shape) for each in (whole, part))
            if a != b:
                yield s.error(
                    f"site {name!r}: a draw is {a} in a batch of {len(s.probe[0])} rows and {b} in one of "
                    f"{len(fewer[0])}: the rows belong to the plate; give .to_event(n) only the n dimensions of one "
                    "datum, and the distribution no other number of rows",
                    name,
                    kind,
                )


def sites(s: Subject) -> Iterator[Finding]:
    """There are latent and observed sites, drawn and scored in one shape, on one scale, one number per row."""
    q, p = (dict(samples(s.trace(kind, s.probe))) for kind in KINDS)
    for name, site in q.items():
        if name in p and not p[name]["is_observed"]:
            guide, model = (tuple(each["value"].shape) for each in (site, p[name]))
            if guide != model:
                yield s.error(
                    f"site {name!r}: the guide draws {guide}, the model {model}: give both one size and one .to_event",
                    name,
                    "guide",
                )
                return
        if isinstance(getattr(site["fn"], "base_dist", site["fn"]), Delta):
            yield s.warning(
                f"site {name!r}: the guide draws a point (Delta), so what is maximized is no bound on log p(x): "
                "give the draw a scale, as a Normal has",
                name,
                "guide",
            )
    programs: dict[Kind, dict[str, dict]] = {"guide": q, "model": p}
    for kind, each in programs.items():
        for name, site in each.items():
            if not any(frame.name == DATA for frame in site["cond_indep_stack"]):
                yield s.error(
                    f"site {name!r} of the {kind} stands outside the plate {DATA!r}: put it under "
                    f'`with pyro.plate("{DATA}", x.shape[0]):`',
                    name,
                    kind,
                )
                return
    if odd := _odd_scale(programs):
        kind, name, scale, other = odd
        yield s.error(
            f"site {name!r} of the {kind} is scaled by {scale:g}, another site by {other:g}: the sum is no bound on "
            "log p(x). Put one poutine.scale around all of both programs, or none, and give plates no subsample_size",
            name,
            kind,
        )
        return
    try:
        with torch.no_grad():
            t = terms(s.pair.model, s.pair.guide, s.probe)
    except Exception as error:
        yield s.failure("the pair fails where it is scored", error)
        return
    if not t.log_lik:
        yield s.error("the model observes nothing: give a site of it obs=x", next(iter(p), None))
    if not t.log_prior:
        yield s.error("the model has no latent site: nothing to infer", next(iter(p), None))
    if t.scale != 1:
        yield s.warning(
            f"every site is scaled by {t.scale:g}: batches come from outside, so a plate needs no subsample_size, "
            "and a weight such as 1/D is no part of log p(x)",
            DATA,
        )


class _Values(poutine.messenger.Messenger):
    """Values as they are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, tuple[Tensor, Tensor]] = {}

    def _pyro_post_sample(self, msg: dict) -> None:
        if isinstance(msg["value"], Tensor):
            self.seen[msg["name"]] = msg["value"], msg["value"].clone()


def _odd_scale(programs: dict[Kind, dict[str, dict]]) -> tuple[Kind, str, float, float] | None:
    """A site that is scaled, unlike others, and how these are."""
    scales = [(kind, name, float(site["scale"])) for kind, each in programs.items() for name, site in each.items()]
    if len({scale for *_, scale in scales}) < 2:
        return None
    kind, name, scale = next(each for each in scales if each[2] != 1)
    return kind, name, scale, next(other for *_, other in scales if other != scale)
