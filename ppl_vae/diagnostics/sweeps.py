"""Runs of a sweep: fitted, several at a time, measured on the same validation rows, and paired by seed and row."""

import itertools
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.core.files import Scratch, write_json
from ppl_vae.data.protocol import Split
from ppl_vae.data.randomness import integer
from ppl_vae.diagnostics.sweep import Failure, Sweep, lines_of
from ppl_vae.diagnostics.workers import in_processes
from ppl_vae.objectives import dimensions
from ppl_vae.programs import Pair, terms
from ppl_vae.programs.find import Spec
from ppl_vae.programs.scores import Batch
from ppl_vae.runs.cells import cells_asked, for_cells
from ppl_vae.runs.grid import Swept, grid
from ppl_vae.runs.recording import FRESH_DRAWS, FRESH_SEED
from ppl_vae.runs.run import Run
from ppl_vae.runs.sweeping import Job, check, jobs
from ppl_vae.training.evaluation import evaluate
from ppl_vae.training.prepare import isolated
from ppl_vae.training.progress import Progress

SPLIT: Split = "valid"
MEAN_DRAWS = 10  # of each row, for E_q[z|x] that has no closed form


@dataclass(frozen=True)
class Measured:
    """A run on N rows.

    Args:
        data: what they are of.
        target: what `value` estimates.
        elbo, value: at each row, `(N,)`: the ELBO, and the value of the objective.
        rate: the mean over rows.
        active: how many latent dimensions are active.
    """

    data: str
    target: str
    elbo: np.ndarray
    value: np.ndarray
    rate: float
    active: float


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the numbers, or why there are none; and what it warned of."""

    measured: Measured | None
    failed: str
    warned: tuple[str, ...]


STOPPED = Outcome(None, "stopped", ())


def sweep(
    model: Spec | None,
    guide: Spec | None,
    data: Any,
    out: str | os.PathLike[str] | None,
    *,
    seeds: int,
    swept: Swept,
    at_once: int,
    progress: bool,
    layer: str | None = None,
    library: str | None = None,
    batch: str | None = None,
    **options: Any,
) -> Sweep:
    """Fit every combination of `swept` at every seed, and compare them on the validation rows.

    Runs that are there are gone on with, or left as they are if they are done.

    Args:
        out: the folder of the sweep; without it a temporary one.
        seeds: how many, from the option `seed` on.
        at_once: so many runs at a time, each in a process of its own.
        layer, library, batch, options: those of `fit`.

    Raises:
        InputError: before anything is trained, what `check` refuses; afterwards, that every setting has failed.
    """
    at_least(1, seeds=integer("seeds", seeds), jobs=integer("jobs", at_once))
    settings = grid(swept)
    scratch = Scratch() if out is None else None
    place = scratch.folder if scratch else Path(out or "").expanduser()
    cells = cells_asked(model, data, layer, library, batch)
    if cells is not None:
        model, guide, options = for_cells(cells, model, guide, options)
    planned = jobs(model, guide, data, place, settings, seeds, options, cells)
    check(planned)
    outcomes: list[Outcome] = []
    with Progress(progress, len(planned)) as bar:
        for job, outcome in zip(planned, in_processes(outcome_of, planned, at_once, stopped=STOPPED), strict=True):
            outcomes.append(outcome)
            for text in outcome.warned:
                warnings.warn(f"{job.label}: {text}", stacklevel=3)
            m = outcome.measured
            bar.say(f"{job.label}: {f'ELBO {m.elbo.mean():z.2f}, rate {m.rate:z.2f}' if m else outcome.failed}")
            bar.advance()
    found = sweep_of(planned, outcomes, scratch)
    write_json(place / "sweep.json", found.asdict())
    return found


def outcome_of(job: Job) -> Outcome:
    """Fit and measure; whatever goes wrong with one job is not to lose the others."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            measured, failed = measure(job), ""
        except Exception as error:  # also what a program of the user's raises
            kind = "" if isinstance(error, InputError | ArithmeticError) else f"{type(error).__name__}: "
            measured, failed = None, kind + str(error).strip().partition("\n")[0]
    return Outcome(measured, failed, tuple(dict.fromkeys(str(each.message) for each in caught)))


def measure(job: Job) -> Measured:
    """The bound of the best state at each validation row, at the draws of the run's `best.json`."""
    run = job.trained()
    objective = job.made_objective(run)
    with isolated(job.config.seed, precision=job.config.precision), torch.no_grad():
        pair = run.pair(**run.again)
        found = run.data(job.data)

        def rows() -> Iterator[Batch]:
            for batch in found.batches(SPLIT, job.config.batch_size):
                yield tuple(x.to(job.config.device) for x in batch)

        seen = [evaluate(pair, objective, rows(), FRESH_SEED + draw) for draw in range(FRESH_DRAWS)]
        elbo, value, rate = (
            torch.stack([getattr(each, name) for each in seen]).mean(0).cpu() for name in ("elbo", "value", "rate")
        )
        active = active_units(pair, rows())
    return Measured(found.name, objective.target, elbo.numpy(), value.numpy(), rate.mean().item(), active)


def active_units(pair: Pair, rows: Iterator[Batch]) -> float:
    """How many dimensions have Var_x(E_q[z|x]) > 0.01; NaN where no latent is a vector of real numbers."""
    passes = (terms(pair.model, pair.guide, batch, MEAN_DRAWS) for batch in rows)
    first = next(passes)
    try:
        found = dimensions.measure(itertools.chain([first], passes), [site for site in first.q if site in first.p])
    except InputError:
        return math.nan
    variances = found.mean_covariance.diagonal()
    return math.nan if variances.isnan().all() else float((variances > dimensions.ACTIVE).sum())


def sweep_of(planned: Sequence[Job], outcomes: Sequence[Outcome], keep: Scratch | None = None) -> Sweep:
    """What the runs have come to, side by side; a setting of which a seed has failed is left out.

    Raises:
        InputError: every setting has failed.
    """
    done = list(zip(planned, outcomes, strict=True))
    failed = tuple(Failure(job.setting.label, job.config.seed, o.failed) for job, o in done if o.measured is None)
    lost = {failure.label for failure in failed}
    if all(job.setting.label in lost for job in planned):
        raise InputError(
            f"every setting of the sweep failed; {failed[0].label}, seed {failed[0].seed}: {failed[0].why}"
        )
    kept: dict[str, list[tuple[Job, Measured]]] = {}
    for job, o in done:
        if job.setting.label not in lost and o.measured is not None:
            kept.setdefault(job.setting.label, []).append((job, o.measured))
    targets = {m.target for each in kept.values() for _, m in each}
    bound = targets.pop() if len(targets) == 1 else "ELBO"
    own = bound.startswith("IWAE")  # the other values that are no ELBO are no better bound
    seeds = [job.config.seed for job, _ in next(iter(kept.values()))]
    bounds = {label: np.stack([m.value if own else m.elbo for _, m in each]) for label, each in kept.items()}
    about = {
        label: {
            "setting": each[0][0].setting.shown,
            "rate": float(np.mean([m.rate for _, m in each])),
            "active_units": float(np.mean([m.active for _, m in each])),
            "runs": tuple(Run(job.folder, keep, job.run().again) for job, _ in each),
        }
        for label, each in kept.items()
    }
    first = next(iter(kept.values()))[0][1]
    return Sweep(
        data=first.data,
        bound=bound if own else "ELBO",
        rows=len(first.elbo),
        seeds=tuple(seeds),
        settings=lines_of(bounds, seeds, about),
        failed=failed,
    )
