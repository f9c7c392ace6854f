"""A run gone on with from its last checkpoint, bit for bit as if it had not stopped."""

import math
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ppl_vae.core.errors import InputError
from ppl_vae.core.randomness import kept
from ppl_vae.programs.find import Spec
from ppl_vae.runs import lock
from ppl_vae.runs.building import build
from ppl_vae.runs.record import change_config, note_processes
from ppl_vae.runs.recording import disk_told, load, whole_step
from ppl_vae.runs.run import Run
from ppl_vae.runs.trackers import check_packages
from ppl_vae.runs.wired import EXAMPLE_ROWS, Set, again_of, loop_of, notes_of, refuse_or_warn, train
from ppl_vae.training import settings, stepping
from ppl_vae.training.distributed import World, world
from ppl_vae.training.loop import Loop
from ppl_vae.training.prepare import isolated, make_objective


def go_on(
    run: str | os.PathLike[str],
    given: Mapping[str, Any],
    *,
    model: Spec | None = None,
    guide: Spec | None = None,
    data: Any = None,
    set: Set = (),
    objective: Any = None,
    trust: bool = False,
    force: bool = False,
    progress: bool = False,
) -> Run:
    """Go on with a run from its last checkpoint, bit for bit as if it had not stopped. Errors as for `fit`.

    Args:
        given: options of `FitConfig` that are given, be it at their default; see `FitConfig.resumed_with`.
        model, guide, data, set, objective: again, what was given from Python or is not a shipped program.
    """
    run, here = Run.of(run), world()
    with here.context(lock.training, run.folder), disk_told(run.folder):  # before anything of it is read
        here.wait()
        config = run.config.resumed_with(given, force=force)
        _check_processes(run, here, force)
        at = whole_step(run) if run.checkpoints.steps else None
        _ = run.metrics, run.checkpoints.steps and run.best  # a damaged file is refused before anything is written
        check_packages(config.track)
        opened = run.data(data, force=force)
        values = settings.restore(run.config.set, set, run.folder)
        most = torch.get_num_threads()
        with isolated(config.seed, config.threads, config.precision):
            example = opened.first(EXAMPLE_ROWS) if at is None else None
            moments = opened.moments() if config.standardize and at is None else None
            named = {"model": model, "guide": guide}
            notes = notes_of(config, values)
            pair = build(run, named, example, moments, set=notes, trust=trust, force=force)
            made = make_objective(run.named_objective(objective, trust=trust, force=force), values, config.precision)
            loop = loop_of(config, pair, opened, made)
            how = run.record.get("step", {"captured": False})
            if at is not None and how.get("eager_from", math.inf) <= at:
                how = {"captured": False}
            with kept():
                batch = loop.move(opened.first(loop.rows_of_part))
                loop.stepper = stepping.stepper(pair, made, config, batch, loop.steps, how, here)
            here.wait()  # until all have read what the first one may now change
            if at is not None:
                load(loop, run, at)
            refuse_or_warn(pair, opened, made)
            if (run.processes, run.launchers) != (here.shard.size, here.launchers):
                here.once(note_processes, run.folder, here.shard.size, here.launchers)
            if config != run.config:
                _check_change(loop, run)
                here.once(change_config, run.folder, config, loop.state.step)
            again = {**run.again, **again_of(pair, {**named, "set": notes})}
            return train(loop, Run(run.folder, run.keep, again), progress, most, fresh=at is None)


def _check_processes(run: Run, here: World, force: bool) -> None:
    """Warn where another number of processes goes on with the run, which is not bit for bit the same then.

    Raises:
        InputError: nobody has asked for it, be it by `force` or by a launcher that has started them again.
    """
    before, now = run.processes, here.shard.size
    if before == now:
        return
    told = f"{run.folder} was trained by {before} process{'es' * (before > 1)}, not by {now}"
    if not force and set(here.launchers).isdisjoint(run.launchers):
        raise InputError(f"{told}: start as many, or go on with other noise by --force")
    warnings.warn(f"{told}: from here on its noise is other than it would have been", stacklevel=4)


def _check_change(loop: Loop, run: Run) -> None:
    """Warn where a run that has ended is not trained on by what is changed.

    Raises:
        InputError: another batch size within an epoch, whose rows would not be taken once each.
    """
    config, state = loop.config, loop.state
    if config.batch_size != run.config.batch_size and state.batch:
        raise InputError(
            f"the last checkpoint, of step {state.step}, stands within an epoch, which goes on in batches of "
            f"{run.config.batch_size} rows: leave out batch_size, or change it when an epoch has ended"
        )
    if loop.done() and state.epoch < config.epochs:
        warnings.warn(
            f"{run.folder} has ended: {state.waited} epochs without a better value; a larger patience trains it on",
            stacklevel=4,
        )
