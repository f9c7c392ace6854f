"""The training loop wired to a run's folder, be the run a new one or one that goes on."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ppl_vae.checks.pair import check_pair
from ppl_vae.core.errors import InputError, NotFinite, NumericalError
from ppl_vae.core.randomness import kept
from ppl_vae.data import Data
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair
from ppl_vae.runs.recording import NOT_FINITE, Recording
from ppl_vae.runs.run import Run
from ppl_vae.runs.threads import ChosenThreads
from ppl_vae.runs.tracking import Tracking
from ppl_vae.training.config import FitConfig
from ppl_vae.training.distributed import follow, world
from ppl_vae.training.loop import Loop
from ppl_vae.training.progress import Progress
from ppl_vae.training.step import Trainer

Set: TypeAlias = Mapping[str, Any] | str | Iterable[str]
"""Settings, as a user gives them."""
EXAMPLE_ROWS = 1000
"""Rows by which a pair is made, from the beginning of the data."""


def loop_of(config: FitConfig, pair: Pair, data: Data, objective: Objective) -> Loop:
    here = world()
    noise = here.noise(config.device, config.seed)
    return Loop(Trainer(pair, objective, config.lr, config.clip, noise, here), data, config, world=here)


def train(loop: Loop, run: Run, progress: bool, threads: int, *, fresh: bool) -> Run:
    """Train to the end, all processes together; the first one writes the run's folder.

    Args:
        threads: so many at most.
        fresh: the training is at its very start.
    """
    loop.world.check_same(loop.data.sha256, loop.data.name)
    loop.world.begin(loop.stepper.pair)
    loop.world.lead(lambda: lead(loop, run, progress, threads), lambda: follow(loop, fresh))
    return Run(run.folder, run.keep, run.again)  # which has not read the record before it was changed


def lead(loop: Loop, run: Run, progress: bool, threads: int) -> None:
    """Wire the loop to the run's folder, and train to the end."""
    recording, bar = Recording(run), Progress(progress, loop.steps)
    with Tracking(run, loop, quiet=not progress) as tracking:
        loop.callbacks = (recording, bar, tracking)
        recording.begin(loop)
        with loop.world.signals, bar:
            with kept():
                about = list(loop.about())
            for line in about:
                bar.say(line)
            if loop.config.threads == "auto":
                chosen = ChosenThreads(run.folder, threads, bar.say)
                loop.callbacks = (*loop.callbacks, chosen)
                chosen.begin(loop)
            try:
                loop.run()
            except NumericalError as error:
                recording.save(loop)
                told = f"{error}, {run.folder} holds the state before it"
                if isinstance(error, NotFinite):
                    told += (
                        f", and {NOT_FINITE} there the batch. Go on with a lower learning rate by ppl-vae resume --lr, "
                        "or fit anew with --clip, or with a floor on a scale; --on-nan skip leaves such steps out"
                    )
                raise type(error)(told, error.rows) from error
            recording.save(loop)
        if (caught := loop.world.ended()) is not None:
            raise recording.stopped(caught, loop)
        recording.measure_best(loop)
        tracking.end(loop)
    loop.warn_of_warmup()


def refuse_or_warn(pair: Pair, data: Data, objective: Objective) -> None:
    """Warn of what `check` doubts.

    Raises:
        InputError: the first thing that it refuses.
    """
    for finding in check_pair(pair, data, objective).findings:
        if finding.level == "error":
            raise InputError(str(finding))
        warnings.warn(str(finding), stacklevel=4)


def notes_of(config: FitConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are recorded by a note alone."""
    return {entry["name"]: given[entry["name"]] for entry in config.set if isinstance(entry, dict)}


def again_of(pair: Pair, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of what was given, all that `Run.pair` would ask for again in another process."""
    unnamed = {kind for kind, source in pair.sources.items() if not source.shipped} | {"set"}
    return {name: value for name, value in given.items() if name in unnamed and value is not None}
