"""Several runs on one page: their numbers side by side, and the sections of each."""

from collections.abc import Iterator, Sequence
from typing import Any

from ppl_vae.reports import report_figures
from ppl_vae.reports.html import Section, note, table
from ppl_vae.reports.run_page import Shown, drawn_in, sections


def side_by_side(found: Sequence[Shown], told: Any, refused: str) -> Section:
    """Values and paired differences of the runs.

    Args:
        told: what `compare` says of them, a `RunComparison`; None where it can't.
        refused: why it can't.
    """
    section = Section("together", "Side by side")
    best = [(names(found)[i], shown.run.best) for i, shown in enumerate(found)]
    rows = [(name, each.elbo, each.rate, each.distortion) for name, each in best]
    caption = "Validation rows at each run's best step, nats per datum ± s.e. over data"
    section.add(table(caption, ("run", "ELBO", "rate", "distortion"), rows))
    curves = {name: shown.run.metrics for name, shown in zip(names(found), found, strict=True)}
    section.add(
        drawn_in(report_figures.learning(curves), "Validation ELBO over epochs, ± s.e. over data.", "Learning curves")
    )
    if told is None:
        return section.add(note(f"Paired differences can't be had: {refused}"))
    section.lead = "The same rows, datum by datum: a paired difference has less noise than the values have."
    pairs = [(f"{p.a} − {p.b}", p.difference, p.over_data, f"{p.over_data.z:z.1f}") for p in told.pairs]
    head = ("runs", "± s.e. over draws", "± s.e. over data", "z")
    return section.add(
        table(f"Paired differences of {told.target} on {told.rows} {told.split} rows, nats per datum", head, pairs),
        *map(str, told.over_seeds),
    )


def each_run(found: Sequence[Shown]) -> Iterator[Section]:
    """The sections of all runs, one run's after another's, with its name before their titles."""
    for i, (name, shown) in enumerate(zip(names(found), found, strict=True)):
        yield from sections(shown, f"run{i + 1}-", name)


def names(found: Sequence[Shown]) -> list[str]:
    """The names of the folders, or where two are alike, the whole paths."""
    short = [shown.run.folder.name for shown in found]
    return short if len({*short}) == len(short) else [str(shown.run.folder) for shown in found]
