"""Both programs run on any number of rows, and do not change what they are given."""

import contextlib
from collections.abc import Iterator

from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.checks.subject import KINDS, Finding, Subject, same, samples, shapes
from ppl_vae.programs.layout import DATA


def values_stay(s: Subject) -> Iterator[Finding]:
    """Neither program changes its batch or a draw in place. Else the other program would get the changed value."""
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
                message = f"site {name!r}: the {kind} changes its value in place after pyro.sample"
                yield s.error(f"{message}: write z = z + 1, not z += 1, or work on a copy (z.clone())", name, kind)
                return


def plates(s: Subject) -> Iterator[Finding]:
    """The plate `data` has the size of the batch. This is checked first, because its sites fail if it has not."""
    for kind in KINDS:
        node = s.partial(kind).nodes.get(DATA)
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
    """Both programs run, also on one row fewer, and no event contains the rows."""
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
                    "datum, and let the distribution have as many rows as the batch",
                    name,
                    kind,
                )


class _Values(poutine.messenger.Messenger):
    """Record every value as it is when it is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, tuple[Tensor, Tensor]] = {}

    def _pyro_post_sample(self, msg: dict) -> None:
        if isinstance(msg["value"], Tensor):
            self.seen[msg["name"]] = msg["value"], msg["value"].clone()
