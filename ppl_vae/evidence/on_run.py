"""A run, evaluated: log p(x) of its rows, the gap explained, collapse, and what simulated rows say."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ppl_vae.core.errors import InputError
from ppl_vae.core.randomness import seed_torch
from ppl_vae.data import Data
from ppl_vae.data.newrows import Rows
from ppl_vae.evidence.bidirectional import Bidirectional, bidirectional
from ppl_vae.evidence.calibration import Calibration, calibration
from ppl_vae.evidence.collapse import collapse
from ppl_vae.evidence.evaluation import Evaluation
from ppl_vae.evidence.gap import GapParts, Refined, gap_parts, refined
from ppl_vae.evidence.log_px import LogPx, Method, log_px
from ppl_vae.evidence.predictive import PredictiveCheck, Statistic, predictive_check
from ppl_vae.evidence.units import units
from ppl_vae.graphs.calls import compiled_functions
from ppl_vae.programs import Pair
from ppl_vae.programs.scores import Batch
from ppl_vae.runs.opening import rows_of, running
from ppl_vae.runs.run import Run
from ppl_vae.training.distributed import helpers
from ppl_vae.training.progress import Progress

LONGEST_NAME = 200
CHECKED_ROWS = 200  # at most: each is drawn anew a hundred times
STAGES = 3  # of log p(x), each of which may be short
COLLAPSE_ROWS = 1000  # at most: the mutual information looks at every pair of rows


@contextlib.contextmanager
def measured(
    run: Run,
    data: Any,
    scale: float | None,
    opening: Mapping[str, Any],
    *,
    test: bool,
    rows: int | None,
    seed: int,
    progress: bool,
    stages: int = STAGES,
    last: bool = True,
    **how: Any,
) -> Iterator[tuple[Pair, Rows, Batch, LogPx, Progress]]:
    """The pair of a run, its rows or those of `data`, the batch of them, log p(x) of it, and the bar that told of it.

    Inside, the random state is that of `seed`, and an exception of a program is an `InputError`.

    Args:
        opening: as for `Run.pair`.
        test: of the run's own rows, the test rows alone.
        rows: so many of them, the first ones; by default all.
        stages: how much work the bar tells of, of which log p(x) is `STAGES`.
        last: of several processes only the first has anything to do with them.
        how: the options of `log_px`.
    """
    with run.isolated(seed), running(f"the pair of {run.folder}"):
        pair = run.pair(**opening)
        read = rows_of(run, pair, data, scale, test=test, force=opening.get("force", False))
        batch = tuple(x.to(run.config.device) for x in read.first(len(read.numbers) if rows is None else rows))
        with Progress(progress, stages * 100) as bar:
            here = helpers()
            seed_torch(here.seed(seed))
            how |= {"batch_size": run.config.batch_size, "advance": lambda part: bar.advance(100 * part)}

            def found(part: slice) -> LogPx:
                return log_px(pair.model, pair.guide, tuple(x[part] for x in batch), **how)

            yield pair, read, batch, here.divided(len(batch[0]), found, last=last), bar


def evaluate_on_run(
    run: Run,
    data: Any,
    scale: float | None,
    *,
    method: Method | None,
    num_samples: int,
    rows: int | None,
    gap_rows: int,
    annealed_rows: int,
    temperatures: int | None,
    seconds: float | None,
    simulations: int,
    calibrations: int,
    statistics: Mapping[str, Statistic] | Sequence[str],
    seed: int,
    progress: bool,
    checkpoint: int | str = "best",
    **opening: Any,
) -> Evaluation:
    """Everything that an evaluation finds, each part at the noise of `seed`, whatever the others do.

    Raises:
        InputError: the run can't be opened, its rows can't be read, or the method that is named is not for the pair.
    """
    opening["checkpoint"] = checkpoint
    how: dict[str, Any] = {"num_samples": num_samples, "most_annealed": annealed_rows}
    how |= {"method": method, "temperatures": temperatures, "seconds": seconds}
    with measured(run, data, scale, opening, test=True, rows=rows, seed=seed, progress=progress, **how) as (
        pair,
        read,
        batch,
        found,
        _,
    ):
        count, size = len(batch[0]), run.config.batch_size
        refused: dict[str, str] = {}

        def part(name: str, wanted: bool, make: Callable[[], Any]) -> Any:
            if not wanted:
                return None
            seed_torch(seed)
            try:
                return make()
            except InputError as error:
                refused[name] = str(error)
                return None

        some = torch.arange(min(gap_rows, count))
        first = tuple(x[some] for x in batch)
        few = tuple(x[:COLLAPSE_ROWS] for x in batch)
        options: dict[str, Any] = {} if temperatures is None else {"temperatures": temperatures}
        gap: GapParts | None = part(
            "the explanation of the gap",
            gap_rows > 0,
            lambda: gap_parts(
                pair.model, pair.guide, first, found.value[some], found.se[some], reliable=found.reliable[some]
            ),
        )
        carried = part("collapse", count > 1, lambda: collapse(pair.model, pair.guide, few, batch_size=size))
        simulated: Bidirectional | None = part(
            "annealing of simulated data",
            simulations > 0,
            lambda: bidirectional(pair.model, pair.guide, batch, rows=simulations, seconds=seconds, **options),
        )
        calibrated: Calibration | None = part(
            "calibration",
            calibrations > 0,
            lambda: calibration(pair.model, pair.guide, batch, simulations=calibrations, batch_size=size),
        )
        checked: PredictiveCheck | None = part(
            "predictive checks",
            len(statistics) > 0,
            lambda: predictive_check(
                pair.model, pair.guide, tuple(x[:CHECKED_ROWS] for x in batch), statistics, draws=100, batch_size=50
            ),
        )
        return Evaluation(
            data=name_of(run, data),
            split="test" if data is None or isinstance(data, Data) else "new",
            step=run.step(checkpoint),
            seed=seed,
            num_samples=num_samples,
            numbers=read.numbers[:count],
            found=found,
            units=units(pair, run.config, batch),
            gap_rows=some,
            gap=gap,
            collapse=carried,
            simulated=simulated,
            calibration=calibrated,
            predictive=checked,
            refused=refused,
            compiled=compiled_functions(),
            threads=torch.get_num_threads(),
        )


def name_of(run: Run, data: Any) -> str:
    """What the rows are of: the run's data, or the files that were given in their place."""
    if isinstance(data, Data):
        return data.name
    spec = run.config.data if data is None else data
    listed = [spec] if isinstance(spec, str) else spec
    named = isinstance(listed, list | tuple) and all(isinstance(x, str) for x in listed)
    text = " ".join(listed) if named else ""
    return text if 0 < len(text) < LONGEST_NAME else "data given from Python"


def refine_on_run(
    run: Run, found: Evaluation, data: Any, scale: float | None, checkpoint: int | str, **opening: Any
) -> Refined:
    """Each row's best q(z|x), from the encoder's answer, for the rows that were evaluated."""
    with run.isolated(found.seed), running(f"the pair of {run.folder}"):
        pair = run.pair(checkpoint=checkpoint, **opening)
        read = rows_of(run, pair, data, scale, test=True, force=opening.get("force", False))
        batch = tuple(x.to(run.config.device) for x in read.first(len(found.numbers)))
        return refined(pair.model, pair.guide, batch)
