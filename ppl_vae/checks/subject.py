"""What every check works on, and how a finding is worded."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from typing import Literal

import torch
from pyro import poutine
from torch import Tensor

from ppl_vae.checks.lines import Lines, raised, sampled
from ppl_vae.core.errors import InputError
from ppl_vae.data import Data
from ppl_vae.data.binarize import binarized
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, Terms, draw, owned, score
from ppl_vae.programs.find import Kind, blame
from ppl_vae.programs.layout import DATA, samples
from ppl_vae.programs.scores import Batch, Values
from ppl_vae.programs.state import buffers_kept, evaluating

OTHER_SHAPE = 1e-3  # where the same sums are taken in tensors of other shapes

__all__ = ["KINDS", "OTHER_SHAPE", "Finding", "Subject", "aligned", "differ", "same", "samples", "shapes"]

PROBE_ROWS = 7
KINDS: tuple[Kind, Kind] = ("guide", "model")  # in the order in which they run

HINTS = {
    "Shape mismatch inside plate": "add .to_event(n) for the dimensions of one datum",
    "Multiple sample sites named": "give each site a name of its own",
    "positional argument": "a program gets one tensor for each field of the data",
    "does not require grad": "evaluation runs without gradients: compute yours under `with torch.enable_grad():`",
    "shapes cannot be multiplied": "a layer's first size must be the last dimension of what it gets",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and how to fix it.

    Args:
        site: the sample site that is concerned, if there is one.
        where: `path:line` of the statement, or the file if no line is known.
    """

    level: Literal["error", "warning"]
    message: str
    site: str | None = None
    where: str | None = None

    def __str__(self) -> str:
        return f"{self.message} ({self.where})" if self.where else self.message


@dataclass(frozen=True)
class Subject:
    """A pair, its data, and two small batches of it.

    Args:
        probe, other: two batches of the same number of rows, with different rows if there are enough. Rows with missing
            cells come first in `probe`.
        lines: `path:line` of the sites of each program, filled by `trace`.
    """

    pair: Pair
    dataset: Data
    objective: Objective
    probe: Batch
    other: Batch
    lines: dict[Kind, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    @classmethod
    def of(cls, pair: Pair, dataset: Data, objective: Objective) -> "Subject":
        device = next((t.device for _, t in owned(pair.model, pair.guide, pair.borrower)), torch.device("cpu"))
        probe, other = (
            tuple(x.to(device) for x in _seen(dataset, dataset.rows("train", rows)))
            for rows in _ends(dataset, PROBE_ROWS)
        )
        return cls(pair, dataset, objective, probe, other)

    def chunks(self) -> Iterator[tuple[Tensor, Batch]]:
        """Numbers and values of all rows, some at a time, as the checks look at them; fewer if they were checked."""
        for i, (numbers, batch) in enumerate(self.dataset.chunks()):
            if i and self.dataset.checked:
                return
            yield numbers, tuple(x.to(self.device) for x in batch)

    @property
    def files(self) -> dict[Kind, str]:
        """The file of each program that comes from one. A program that was given from Python is left out."""
        paths = {kind: self.pair.sources[kind].path for kind in KINDS}
        return {kind: str(path) for kind, path in paths.items() if path}

    @property
    def device(self) -> torch.device:
        return self.probe[0].device

    def trace(self, kind: Kind, batch: Batch, replayed: poutine.Trace | None = None) -> poutine.Trace:
        """One pass of a program, at the draws of another trace if one is given. It records the lines of the sites."""
        program = getattr(self.pair, kind)
        if replayed is not None:
            program = poutine.replay(program, trace=replayed)
        with torch.no_grad(), Lines(self.lines[kind], set(self.files.values())):
            return poutine.trace(program).get_trace(*batch)

    def partial(self, kind: Kind) -> poutine.Trace:
        """One pass of a program on the probe, up to the point where it fails, if it fails."""
        with contextlib.suppress(Exception), poutine.trace() as tracer:
            self.trace(kind, self.probe)
        return tracer.trace

    def sites(self) -> dict[Kind, dict[str, dict]]:
        """The sites of both programs on the probe, each at its own draws."""
        return {kind: dict(samples(self.partial(kind))) for kind in KINDS}

    @cached_property
    def auxiliary(self) -> set[str]:
        """The auxiliary sites of the model, r(u|x, z), which are no part of p(x, z)."""
        return {name for name, site in self.sites()["model"].items() if site["infer"].get("is_auxiliary")}

    def draw(self, batch: Batch, num_samples: int = 1, seed: int = 0) -> Values:
        torch.manual_seed(seed)
        with torch.no_grad():
            return draw(self.pair.guide, batch, num_samples)

    def score(self, batch: Batch, values: Values, seed: int = 0) -> Terms:
        torch.manual_seed(seed)
        with torch.no_grad(), buffers_kept(self.pair.model, self.pair.guide):
            return score(self.pair.model, self.pair.guide, batch, values)

    @cached_property
    def unscorable(self) -> Exception | None:
        """The reason why log q can't be computed at a given draw, or None if it can."""
        try:
            self.score(self.probe, self.draw(self.probe))
        except Exception as error:
            return error
        return None

    @cached_property
    def noisy(self) -> tuple[str, Kind] | None:
        """A site, with its program, whose log-probability at one draw differs between two seeds in evaluation mode."""
        with evaluating(self.pair.model, self.pair.guide):
            values = self.draw(self.probe)
            a, b = (self.score(self.probe, values, seed) for seed in (0, 1))
        return next(((site, kind) for kind, site, x, y in aligned(a, b) if differ(x, y)), None)

    def error(self, message: str, site: str | None = None, kind: Kind = "model") -> Finding:
        return Finding("error", message, site, self.line(site, kind))

    def warning(self, message: str, site: str | None = None, kind: Kind = "model") -> Finding:
        return replace(self.error(message, site, kind), level="warning")

    def line(self, site: str | None, kind: Kind) -> str | None:
        """The line of the site in that program, or else in the other."""
        for each in (kind, *KINDS):
            if site in self.lines[each]:
                return self.lines[each][site]
        return None

    def failure(self, what: str, error: Exception, kind: Kind = "model", hints: Mapping[str, str] = HINTS) -> Finding:
        """The finding that an exception was raised, at the line of the user's file, or else at the site that it names.

        Args:
            what: what failed. An `InputError` says this itself.
            hints: for words of a message, what to do.
        """
        message = str(error) if isinstance(error, InputError) else f"{what}: {blame(error, None)}"
        site = sampled(error) or self._named(message)
        where = raised(error, set(self.files.values())) or self.line(site, kind) or self.files.get(kind)
        hint = "".join(f"; {hint}" for words, hint in hints.items() if words in message)
        return Finding("error", message + hint, site, where)

    def _named(self, message: str) -> str | None:
        if named := re.search(r"site '(.+?)'", message):
            return named[1]
        sites = [site for kind in KINDS for site in self.lines[kind] if site != DATA]
        return next((site for site in sites if repr(site) in message), None)


def aligned(a: Terms, b: Terms) -> Iterator[tuple[Kind, str, Tensor, Tensor]]:
    """Program, site and log-probabilities `(K, B)` of two passes, in the order in which the sites ran."""
    for kind, x, y in (
        ("guide", a.log_q, b.log_q),
        ("model", a.log_prior, b.log_prior),
        ("model", a.log_lik, b.log_lik),
    ):
        for site in x:
            yield kind, site, x[site], y[site]  # type: ignore[misc]


def same(a: Tensor, b: Tensor) -> bool:
    """Are two tensors exactly equal, missing cells included?"""
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def differ(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    """Do two computations of the same numbers differ by more than rounding, in tensors of the same shape?"""
    return not torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def shapes(batch: Batch) -> str:
    return ", ".join(str(tuple(x.shape)) for x in batch)


def _seen(dataset: Data, batch: Batch) -> Batch:
    """Under `binarize="epoch"`, 0 and 1 for the grey training values, which no step will see as they are."""
    if dataset.binarize != "epoch":
        return batch
    grey, *others = batch
    return (binarized(grey, "threshold"), *others)


def _ends(dataset: Data, count: int) -> tuple[Tensor, Tensor]:
    """The indices of `count` training rows from the start and from the end, up to three with missing cells first."""
    first, rows = dataset.with_missing(3), range(dataset.lengths["train"])
    rest, back = ((i for i in way if i not in first) for way in (rows, reversed(rows)))
    ways = chain(first, rest), chain(back, reversed(first))
    here, there = (torch.tensor(list(islice(way, count))) for way in ways)
    return here, there
