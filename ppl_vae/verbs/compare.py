"""The verb `compare`: estimators on one run, or runs by one estimator."""

import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from typing_extensions import Doc

from ppl_vae.core.errors import InputError, at_least, check_seeds
from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from torch import Tensor

    from ppl_vae.diagnostics.results import Comparison
    from ppl_vae.diagnostics.run_comparison import RunComparison

ESTIMATORS = ("trace", "analytic-kl")
LONGEST = 100  # characters of a folder's name


def compare(
    run: Annotated[
        o.Place | Sequence[o.Place],
        Doc("The folder of the run; of several runs, to compare them on the same rows."),
        o.Flag(tyro.conf.Positional[tuple[Path, ...]], ()),
    ],
    *,
    objectives: Annotated[
        Sequence[str] | None,
        Doc(
            "The estimators, with settings after a colon: iwae:K=5 renyi:K=5,alpha=0.5. By default trace and "
            "analytic-kl; for several runs trace."
        ),
        o.Flag(tuple[str, ...], (), lambda typed: typed or None),
    ] = None,
    num_samples: Annotated[
        Sequence[int],
        Doc("K, for every estimator that names none; one or several."),
        o.Flag(tuple[int, ...], ()),
    ] = (),
    draws: Annotated[int, Doc("How often each estimator is repeated.")] = 100,
    seed: o.Seed = 0,
    checkpoint: Annotated[
        int | str | Sequence[int | str],
        Doc("Which weights are used, one or several of: a step, best, last, first, middle."),
        o.Flag(tuple[str, ...]),
    ] = ("best",),
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Doc(
            "With bfloat16, each estimator also with the products of layers in bfloat16, as fit --precision has them: "
            "the difference is what they cost in nats."
        ),
    ] = "float32",
    out: Annotated[o.Out, Doc("For several runs: a JSON file to write.")] = None,
    wide: Annotated[bool, Doc("Print every column, 120 characters wide.")] = False,
    data: o.DataAgain = None,
    model: o.ModelAgain = None,
    guide: o.GuideAgain = None,
    set: o.SettingsAgain = None,
    trust: o.Trust = False,
    force: o.Force = False,
    compile: o.CompileWork = "auto",
    threads: o.ThreadsOfWork = None,
    progress: o.Progress = False,
) -> "Comparison | RunComparison":
    """Compare estimators at one run's parameters, rows and noise; or several runs, row by row.

    Of one run the result is a `Comparison`: it is written into the run as `compare.json`, `compare.nc` and
    `compare.png`, the latest one, and under a name of its own in `comparisons/`. What the run set of `objective.…`
    holds for each estimator that has it. An objective that refuses the pair is left out, and `left_out` says why; if
    all do, it is an error.

    Of several runs it is a `RunComparison`: the paired differences of their values at each test row, which must be the
    same rows.
    """
    from ppl_vae.core.files import check_file, write_json
    from ppl_vae.diagnostics.on_runs import compare_on_run, compare_runs
    from ppl_vae.runs.run import Run
    from ppl_vae.verbs._work import working

    check_seeds(seed=seed)
    at_least(2, draws=draws)
    at_least(1, num_samples=min(num_samples, default=1))
    checkpoints = [checkpoint] if isinstance(checkpoint, int | str) else list(checkpoint)
    runs = [Run.of(each) for each in ([run] if isinstance(run, str | PathLike) else run)]
    if not runs or not checkpoints:
        raise InputError("compare needs the folder of a run, RUN, and a checkpoint: name at least one of each")
    specs = ESTIMATORS[: 2 if len(runs) == 1 else 1] if objectives is None else objectives
    asked: dict[str, Any] = {"num_samples": num_samples, "draws": draws, "seed": seed, "progress": progress}
    if precision != "float32" and len(runs) > 1:
        raise InputError("precision is for the estimators of one run: leave it out")
    opening = {"data": data, "model": model, "guide": guide, "set": set, "trust": trust, "force": force}
    if trust:
        for each in runs:
            each.announce_trusted()
    if len(runs) == 1:
        if out is not None:
            raise InputError("out is for several runs: the comparison of one goes into its folder")
        with working(compile, threads, progress):
            comparison, rows = compare_on_run(
                runs[0], specs, checkpoints=checkpoints, twins=precision == "bfloat16", **asked, **opening
            )
        return replace(comparison, files=_write(runs[0].folder, comparison, rows), wide=wide)
    if len(checkpoints) > 1:
        raise InputError("give several runs or several checkpoints, not both")
    path = None if out is None else Path(out).expanduser()
    if path is not None:
        check_file(path)
    with working(compile, threads, progress):
        found = compare_runs(runs, specs, checkpoint=checkpoints[0], **asked, **opening)
    if path is not None:
        write_json(path, found.asdict())
    return found


def _write(folder: Path, comparison: "Comparison", rows: "Tensor") -> tuple[str, ...]:
    """Write a comparison under its own name, and again as the run's latest; returns the files of the latest."""
    from ppl_vae.core.files import write_bytes, write_json
    from ppl_vae.reports import figures
    from ppl_vae.reports.arviz import write_comparison
    from ppl_vae.reports.style import save

    place = folder / "comparisons" / _name(comparison)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "compare.json", comparison.asdict())
    write_comparison(comparison.checkpoints, rows, place / "compare.nc")
    save(figures.comparison(comparison.checkpoints), place / "compare.png")
    latest = {kind: folder / f"compare.{kind}" for kind in ("json", "nc", "svg", "png")}
    for file in latest.values():
        write_bytes(file, (place / file.name).read_bytes())
    return tuple(str(file) for kind, file in latest.items() if kind != "svg")


def _name(comparison: "Comparison") -> str:
    """What tells a comparison of a run from its others, in a name for a folder."""
    estimators = "_".join(comparison.estimators)
    steps = "-".join(map(str, comparison.checkpoints))
    name = f"{estimators}_step-{steps}_draws-{comparison.draws}_seed-{comparison.seed}"
    name = re.sub(r"[^\w.=,-]", "-", name)
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{sha256(name.encode()).hexdigest()[:8]}"
