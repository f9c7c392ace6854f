"""Fit: check, train, keep the best, survive interruption. `start` makes a run; `resuming` goes on with one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ppl_vae import objectives
from ppl_vae.core.errors import InputError
from ppl_vae.core.files import Scratch
from ppl_vae.core.randomness import kept
from ppl_vae.data import Data
from ppl_vae.data.cells import CellFields
from ppl_vae.data.columns import Described
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair
from ppl_vae.programs.find import Spec
from ppl_vae.programs.scores import Batch
from ppl_vae.runs import lock
from ppl_vae.runs.cells import cells_asked, for_cells
from ppl_vae.runs.record import FILE, is_unfinished, record_data, write_record
from ppl_vae.runs.recording import disk_told
from ppl_vae.runs.resuming import go_on
from ppl_vae.runs.run import Run
from ppl_vae.runs.tables import table_asked
from ppl_vae.runs.trackers import check_packages
from ppl_vae.runs.wired import EXAMPLE_ROWS, Set, again_of, loop_of, notes_of, refuse_or_warn, train
from ppl_vae.training import settings, stepping
from ppl_vae.training.config import FitConfig, config_from
from ppl_vae.training.distributed import world
from ppl_vae.training.prepare import isolated, make_objective, open_config_data, resolve_for, split_objective, to_device


def fit(
    model: Spec | None = None,
    guide: Spec | None = None,
    data: Any = None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    trust: bool = False,
    force: bool = False,
    progress: bool = False,
    columns: Any = None,
    drop: Sequence[str] | str | None = None,
    only: Sequence[str] | str | None = None,
    label: str | None = None,
    layer: str | None = None,
    library: str | None = None,
    batch: str | None = None,
    **options: Any,
) -> Run:
    """Fit a model and a guide to data, and return the run.

    Args:
        model: p(z) p(x|z): a name, a file, `file.py:Name`, an `nn.Module` or a Pyro function.
        guide: q(z|x): likewise.
        data: what `ppl_vae.data.open_data` reads: a built-in set, files, or arrays; or a `ppl_vae.data.Data`.
        out: the folder to make; with `resume`, the run to go on with. Without it, the run is in a temporary folder,
            which is there as long as the run that is returned.
        trust, force: with `resume`: execute programs from `RUN/sources`; accept other hashes (see `Run.pair`).
        progress: show a progress bar on standard error.
        columns, drop, only, label: what the columns of a table are, see `ppl_vae.data.columns.choose`.
        layer, library, batch: which parts of single-cell data the fields are, see `ppl_vae.data.cells.CellFields`.
        options: the fields of `ppl_vae.training.config.FitConfig`; `set` may be a dict of any values, and `objective` a
            subclass of `ppl_vae.objectives.Objective` or an instance of one.

    Raises:
        InputError: anything that `check` refuses, an option that does not fit, an existing folder.
        NumericalError: a loss or gradient that is not finite; the state before that step has been saved.
        Interrupted: Ctrl-C or SIGTERM, after the state has been saved.
    """
    found = cells = None
    if not resume:
        cells = cells_asked(model, data, layer, library, batch)
        found = table_asked(model, guide, data, options.get("set", ()), columns, drop, only, label)
    if found is not None:
        if options.get("scale") is not None:
            raise InputError("a scale is for numbers of one kind: leave it out, for a table has a unit in each column")
        model, guide = found.model, found.guide
        options |= {"set": found.settings | settings.values(options.get("set", ())), "missing": "nan"}
    if cells is not None:
        model, guide, options = for_cells(cells, model, guide, options)
    config, set, objective = asked(model, guide, data, options)
    again = not resume and out is not None and _begun(Path(out).expanduser(), config)
    if not resume and not again:
        table = None if found is None else found.table
        return start(
            model, guide, data, out, config, set=set, objective=objective, table=table, cells=cells, progress=progress
        )
    if out is None:
        raise InputError("fit needs out, the folder of the run to go on with")
    given = {} if again else {name: getattr(config, name) for name in options if name != "set"}
    return go_on(
        out, given, model=model, guide=guide, data=data, set=set, objective=objective, trust=trust, force=force,
        progress=progress,
    )  # fmt: skip


def _begun(folder: Path, config: FitConfig) -> bool:
    """Is it a run that these processes have begun with these options, before their launcher started them again?"""
    here = world()
    if not here.launchers or not (folder / FILE).is_file():
        return False
    run = Run(folder)
    return not set(here.launchers).isdisjoint(run.launchers) and run.config == config


def asked(model: Any, guide: Any, data: Any, options: Mapping[str, Any]) -> tuple[FitConfig, Set, Any]:
    """The options as they are recorded, and beside them the settings and the objective as they were given.

    Raises:
        InputError: an option that `fit` does not have, or a value that it does not take.
    """
    objective, set = options.get("objective"), options.get("set", ())
    kind = objective if isinstance(objective, type) else type(objective)
    recorded = {
        "model": _text(model),
        "guide": _text(guide),
        "data": () if data is None else record_data(data),
        "set": settings.record(set),
    }
    if (track := options.get("track")) is not None:
        recorded["track"] = (track,) if isinstance(track, str) else tuple(track)
    if objective is not None:
        recorded["objective"] = _text(objective) or kind.__qualname__
    return config_from({**options, **recorded}), set, objective


def start(
    model: Spec | None,
    guide: Spec | None,
    data: Any,
    folder: str | os.PathLike[str] | None,
    config: FitConfig,
    *,
    set: Set = (),
    objective: Any = None,
    table: Described | None = None,
    cells: CellFields | None = None,
    progress: bool = False,
) -> Run:
    """Make a run and train it to its end. Arguments and errors as for `fit`.

    Args:
        config: the options, with what is recorded of model, guide, data, settings and objective.
        set, objective: as they were given, where the record of them is not enough.
        table: the data, where they are a table with a schema.
        cells: which parts of the data the fields are, where they are single-cell data.
    """
    for name, value in (("model", model), ("guide", guide), ("data", data)):
        if value is None:
            auto = "; --guide auto makes one from the model" if name == "guide" else ""
            raise InputError(f"fit needs a {name}: --{name}{auto}")
    assert model is not None
    assert guide is not None
    check_packages(config.track)
    scratch = Scratch() if folder is None else None
    place = scratch.folder if scratch else Path(folder or "").expanduser()
    if not is_unfinished(place):
        raise InputError(f"{place} exists: choose another --out, or go on with it by ppl-vae resume {place}")
    schema = cells if table is None else table.schema
    opened = open_config_data(config, data, schema)
    if table is not None and progress:
        table.print(Console(stderr=True))
    given = values_of(config, set)
    most = torch.get_num_threads()
    with isolated(config.seed, config.threads, config.precision):
        example = opened.first(EXAMPLE_ROWS)
        pair, made, named = built(config, model, guide, opened, example, given, objective)
        loop = loop_of(config, pair, opened, made)
        with kept():  # a run that is gone on with from its start does not do all of this again
            loop.check_warmup()
            refuse_or_warn(pair, opened, made)
            batch = loop.move(opened.first(loop.rows_of_part))
            loop.stepper = stepping.stepper(pair, made, config, batch, loop.steps, world=loop.world)
            how = stepping.record(loop.stepper)
            loop.world.wait()  # until all have seen that the folder is free
            with disk_told(place):
                about = (config, pair, opened, example, made, named.source, schema, how, loop.world.launchers)
                loop.world.once(write_record, place, *about)
            loop.world.wait()
        again = again_of(pair, {"model": model, "guide": guide, "set": notes_of(config, given)})
        with loop.world.context(lock.training, place), disk_told(place):
            return train(loop, Run(place, scratch, again), progress, most, fresh=True)


def values_of(config: FitConfig, set: Set) -> dict[str, Any]:
    """The values of the settings of a new run."""
    return settings.values(set) if set else settings.restore(config.set, (), "this fit")


def built(
    config: FitConfig, model: Spec, guide: Spec, data: Data, example: Batch, given: Mapping[str, Any], objective: Any
) -> tuple[Pair, Objective, objectives.Named]:
    """The pair and the objective of a new run. Call it in a process state of its own, `isolated`.

    Args:
        example: the first rows of the data.
        given: the values of all settings.
        objective: as it was given, where its record is not enough.
    """
    chosen, _ = split_objective(given)
    named = objectives.named(config.objective if objective is None else objective)
    how = {"standardize": config.standardize, "missing": config.missing, "objective": named.kind}
    pair = resolve_for(data, model, guide, example, chosen, **how)  # type: ignore[arg-type]
    to_device(pair, config.device)
    return pair, make_objective(named, given, config.precision), named


def _text(spec: Any) -> str:
    return str(spec) if isinstance(spec, str | Path) else ""
