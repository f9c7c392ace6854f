"""The verb `fit`."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typing_extensions import Doc

from ppl_vae.core.errors import InputError
from ppl_vae.training.config import Binarize, Compile, FitConfig, Missing, OnNan, Precision, Schedule, Streamed, Track
from ppl_vae.verbs import _options as o

if TYPE_CHECKING:
    from ppl_vae.runs.run import Run

LEARNING = "learning.png"


def _needed(out: Path | None) -> Path:
    if out is None:
        raise InputError("fit needs --out, the folder of the run")
    return out


@o.knowing_what_is_given
def fit(
    model: Annotated[o.Program | None, o.Flag(str | None)] = None,
    guide: Annotated[o.Program | None, o.Flag(str | None)] = None,
    data: o.Data = None,
    out: Annotated[
        str | Path | None,
        Doc("The folder to make for the run. In Python, without it, a temporary one that goes with the object."),
        o.Flag(Path | None, None, _needed),
    ] = None,
    *,
    objective: o.Objective = FitConfig.objective,
    epochs: int = FitConfig.epochs,
    batch_size: int = FitConfig.batch_size,
    lr: float = FitConfig.lr,
    schedule: Schedule = FitConfig.schedule,
    clip: float | None = FitConfig.clip,
    on_nan: OnNan = FitConfig.on_nan,
    patience: int | None = FitConfig.patience,
    warmup: int | None = FitConfig.warmup,
    warmup_cycles: int = FitConfig.warmup_cycles,
    seed: int = FitConfig.seed,
    split_seed: int = FitConfig.split_seed,
    binarize: Binarize | None = FitConfig.binarize,
    scale: float | None = FitConfig.scale,
    standardize: bool = FitConfig.standardize,
    missing: Missing = FitConfig.missing,
    stream: Streamed = FitConfig.stream,
    columns: o.ColumnsFile = None,
    drop: o.Drop = None,
    only: o.Only = None,
    label: o.LabelColumn = None,
    layer: o.Layer = None,
    library: o.Library = None,
    batch: o.Batch = None,
    set: o.Settings = (),
    seeds: Annotated[
        int | None,
        Doc(
            "Fit so many times, with seeds from --seed on: each is a run OUT/seed-N, and the result is the mean on "
            "validation rows with its standard error over seeds."
        ),
    ] = None,
    sweep: Annotated[
        Mapping[str, Sequence[Any]] | Sequence[str] | str,
        Doc(
            "Fit with each of these values of a setting of --set, as in latent_dim=2,5,10, and say which is best on "
            "validation rows. May be repeated: then every combination is fitted. The same command goes on with a "
            "sweep that was stopped."
        ),
        o.Flag(o.Several),
    ] = (),
    jobs: Annotated[int, Doc("With --seeds or --sweep: so many runs at a time, each in a process of its own.")] = 1,
    device: str = FitConfig.device,
    precision: Precision = FitConfig.precision,
    threads: o.ThreadsFlag = FitConfig.threads,
    compile: Compile = FitConfig.compile,
    track: Annotated[Sequence[Track] | Track, o.Flag(tuple[Track, ...], ())] = FitConfig.track,
    checkpoint_every: int = FitConfig.checkpoint_every,
    keep_every: int | None = FitConfig.keep_every,
    resume: Annotated[bool, Doc("Go on with the run in --out: another name for `ppl-vae resume`.")] = False,
    trust: Annotated[bool, Doc("With --resume: execute the programs in RUN/sources.")] = False,
    force: Annotated[
        bool, Doc("With --resume: accept programs or data whose hash is not the run's, and another batch size.")
    ] = False,
    progress: o.Progress = False,
    given: frozenset[str] = frozenset(),
) -> "Run | Any":
    """Fit a model and a guide to data: check the pair, train it, keep the best state; the run is a folder.

    In Python `objective` may also be a subclass of `ppl_vae.objectives.Objective` or an instance of one, and `set` a
    dict, `sweep` a dict of lists. With `seeds` or `sweep` the result is a `ppl_vae.diagnostics.sweep.Sweep`, which has
    a `table` of the settings and the `best` run.

    Raises:
        InputError: anything that `check` refuses, an option that does not fit, an existing folder.
        NumericalError: a loss or gradient that is not finite; the state before that step has been saved.
        Interrupted: Ctrl-C or SIGTERM, after the state has been saved.
    """
    asked = locals()
    options = {each.name: asked[each.name] for each in fields(FitConfig) if each.name not in ("model", "guide", "data")}
    if resume:
        options = {name: x for name, x in options.items() if name in given}
    cells = {"layer": layer, "library": library, "batch": batch}
    if seeds is not None or sweep:
        if resume or trust or force:
            raise InputError("--resume, --trust and --force are for one run: the same command goes on with a sweep")
        if columns is not None or drop or only or label is not None:
            raise InputError("--columns, --drop, --only and --label are for one run, and not for several of a sweep")
        from ppl_vae.diagnostics.sweeps import sweep as fit_all
        from ppl_vae.training.distributed import world

        if not world().alone:
            raise InputError("--seeds and --sweep fit each run in one process: leave out torchrun, and give --jobs")
        number = 1 if seeds is None else seeds
        found = fit_all(
            model, guide, data, out, seeds=number, swept=sweep, at_once=jobs, progress=progress, **cells, **options
        )
        for each in (run for runs in found.runs.values() for run in runs):
            if not (each.folder / LEARNING).is_file():
                draw_learning(each)
        return found
    if jobs != 1:
        raise InputError("jobs is for several runs: give seeds or a sweep")
    from ppl_vae.runs.fitting import fit as train
    from ppl_vae.training.distributed import world

    run = train(
        model, guide, data, out, columns=columns, drop=drop, only=only, label=label, resume=resume, trust=trust,
        force=force, progress=progress, **cells, **options,
    )  # fmt: skip
    world().once(draw_learning, run)
    return run


def draw_learning(run: "Run") -> None:
    """Draw `learning.png`, if no other process trains the run by now; a figure that fails is a warning."""
    from ppl_vae.reports import figures
    from ppl_vae.reports.style import save
    from ppl_vae.runs import lock

    try:
        with lock.training(run.folder):
            save(figures.learning_curves(run.metrics), run.folder / LEARNING)
    except lock.Held:
        return
    except Exception as error:
        warnings.warn(f"{LEARNING} was not drawn: {error}", stacklevel=3)
