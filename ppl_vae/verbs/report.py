"""The verb `report`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from markupsafe import Markup
from rich.console import RenderableType
from typing_extensions import Doc

from ppl_vae.core.errors import InputError, at_least, check_seeds
from ppl_vae.core.results import Result
from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.reports.html import Section
    from ppl_vae.reports.run_page import Shown

FILE = "report.html"


@dataclass(frozen=True, repr=False)
class Report(Result):
    """A page that was written.

    Args:
        left_out: of each run, by its folder, the sections that are missing, and why.
    """

    file: Path
    size: int
    left_out: dict[str, dict[str, str]]

    def fields(self) -> dict[str, Any]:
        return {"file": str(self.file), "bytes": self.size, "left_out": self.left_out}

    def lines(self) -> Iterator[RenderableType]:
        for run, sections in self.left_out.items():
            yield from (f"{run}: the part “{name}” is left out: {why}" for name, why in sections.items())
        yield f"written: {self.file} ({self.size / 1e6:z.1f} MB): open it in a browser; it needs no network"


def report(
    run: Annotated[
        o.Place | Sequence[o.Place],
        Doc("The folder of a run, or several, which are put side by side."),
        o.Flag(tyro.conf.Positional[tuple[Path, ...]], ()),
    ],
    *,
    out: Annotated[
        o.Out, Doc("The HTML file to write; RUN/report.html if not said, of several runs report.html.")
    ] = None,
    quick: Annotated[
        bool, Doc("Show what is there, and leave out what would have to be computed for minutes: evaluate and compare.")
    ] = False,
    rows: Annotated[int, Doc("How many test rows are shown in the plane of the latent space.")] = 500,
    seed: o.Seed = 0,
    data: o.DataAgain = None,
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
    progress: o.Progress = False,
) -> Report:
    """Write one HTML page about a run, or about several side by side. It needs no server and no network.

    It says what was fitted, in mathematics; how it learned; how tight the bound is; what the latent carries, with a
    plane of it to move over; reconstructions and samples, or columns and unlikely rows of a table; estimators;
    calibration; and how to repeat the run. What `evaluate` and `compare` have not left in the run is computed by them
    first, which may take minutes.
    """
    from ppl_vae.core.files import check_file, write_bytes
    from ppl_vae.reports import vega
    from ppl_vae.reports.html import page
    from ppl_vae.reports.run_page import headline, sections
    from ppl_vae.runs.run import Run
    from ppl_vae.verbs._showing import shown

    check_seeds(seed=seed)
    at_least(2, rows=rows)
    runs = [Run.of(each) for each in ([run] if isinstance(run, str | PathLike) else run)]
    if not runs:
        raise InputError("report needs the folder of a run, RUN, or several")
    alone = len(runs) == 1
    path = Path(out).expanduser() if out is not None else runs[0].folder / FILE if alone else Path(FILE)
    check_file(path)
    if trust:
        for each in runs:
            each.announce_trusted()
    how = {"data": data, "model": model, "guide": guide, "set": set, "trust": trust, "force": force}
    how |= {"seed": seed, "progress": progress}
    found = [shown(each, f"plane{i}", quick=quick, rows=rows, **how) for i, each in enumerate(runs, 1)]
    if alone:
        title, about, parts = f"Report on {runs[0].folder.name}", headline(found[0]), sections(found[0])
    else:
        title, about, parts = f"Report on {len(runs)} runs", "", _together(found, how)
    scripts = [Markup(vega.library())] if any(each.interactive for each in found) else []
    text = page(title, about, parts, scripts).encode()
    write_bytes(path, text)
    return Report(path, len(text), {str(each.run.folder): each.left_out for each in found if each.left_out})


def _together(found: "Sequence[Shown]", how: dict[str, Any]) -> "list[Section]":
    from ppl_vae.reports.several_runs import each_run, side_by_side
    from ppl_vae.verbs.compare import compare

    told, refused = None, ""
    try:
        told = compare([each.run for each in found], **how)
    except InputError as error:
        refused = str(error)
    return [side_by_side(found, told, refused), *each_run(found)]
