"""The verb `compare`: estimators on one run, or runs by one estimator."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import write_json
from ppl_vae.data.protocol import CHUNK
from ppl_vae.diagnostics.compare import compare_estimators, refusal
from ppl_vae.diagnostics.estimators import named
from ppl_vae.diagnostics.runs import compare_groups, compare_rows, groups_of, row_values
from ppl_vae.objectives import Objective
from ppl_vae.programs.scores import Batch, batches
from ppl_vae.runs.opened import Opened, check_file, check_seed, open_run
from ppl_vae.runs.run import Run
from ppl_vae.training.progress import Progress
from ppl_vae.training.setup import isolated

RunLike = str | Path | Run
ESTIMATORS = ("trace", "analytic-kl")


def compare(
    run: RunLike | Sequence[RunLike],
    *,
    objectives: Sequence[str] | None = None,
    num_samples: Sequence[int] = (),
    draws: int = 100,
    seed: int = 0,
    checkpoint: int | str | Sequence[int | str] = ("best",),
    out: str | Path | None = None,
    progress: bool = False,
    **opening: Any,
) -> dict[str, Any]:
    """Estimators at a run's parameters, on its test rows, draw by draw at the same noise; or several runs side by side.

    One run: writes `compare.json`, `compare.nc` and `compare.png` into it, and returns what the JSON holds; see
    `ppl_vae.diagnostics.compare.compare_estimators`. With several checkpoints `checkpoints` holds such a result for
    each, by step, and the top level that of the first named. An objective that refuses the pair is left out, and
    `left_out` says why; if all do, it is an error.

    Several runs: the paired differences of their values at each row, which must be the same rows; see
    `ppl_vae.diagnostics.runs`. Written to `out`, if given.

    Args:
        objectives: names, with settings after a colon: `iwae:K=5`, `renyi:K=5,alpha=0.5`; by default trace and
            analytic-kl, for several runs trace. What one run set of `objective.…` holds for each that has it.
        num_samples: values of K, for all that name none.
        draws: R, how often each estimator is repeated.
        checkpoint: one or several of: a step, `best`, `last`, `first`, `middle`.
        opening: as for `open_run`; it holds for every run.
    """
    check_seed(seed)
    if draws < 2:
        raise InputError(f"draws is {draws}: a variance needs at least 2")
    if any(K < 1 for K in num_samples):
        raise InputError(f"num_samples is {min(num_samples)}: it must be at least 1")
    checkpoints = [checkpoint] if isinstance(checkpoint, int | str) else list(checkpoint)
    runs = [run] if isinstance(run, RunLike) else list(run)
    if not runs or not checkpoints:
        raise InputError("name at least one run and one checkpoint")
    specs = ESTIMATORS[: 2 if len(runs) == 1 else 1] if objectives is None else objectives
    if len(runs) == 1:
        if out is not None:
            raise InputError("out is for several runs: the comparison of one goes into its folder")
        return _estimators(runs[0], specs, num_samples, draws, seed, checkpoints, progress, opening)
    if len(checkpoints) > 1:
        raise InputError("give several runs or several checkpoints, not both")
    return _runs(runs, specs, num_samples, draws, seed, checkpoints[0], out, progress, opening)


def _estimators(
    run: RunLike,
    specs: Sequence[str],
    num_samples: Sequence[int],
    draws: int,
    seed: int,
    checkpoints: Sequence[int | str],
    progress: bool,
    opening: Mapping[str, Any],
) -> dict[str, Any]:
    from ppl_vae.reports import figures
    from ppl_vae.reports.arviz import write_comparison

    run = run if isinstance(run, Run) else Run(Path(run))
    steps = list(dict.fromkeys(run.step(checkpoint) for checkpoint in checkpoints))
    settings = run.objective_settings
    made = named(specs, num_samples, settings)
    results, arrays = {}, {}
    with isolated(seed):
        opened = open_run(run, checkpoint=steps[0], **opening)
        rows, size = opened.rows("test"), run.config.batch_size
        made, left_out = _taken(made, opened, next(batches(rows, size)))
        with Progress(progress, len(steps) * draws * -(-len(rows[0]) // size)) as bar:
            for step in steps:
                opened = opened if step == steps[0] else open_run(run, checkpoint=step, **opening)
                found = compare_estimators(
                    opened.pair, made, rows, batch_size=size, draws=draws, seed=seed, step=bar.advance
                )
                results[step], arrays[step] = found.result, found.arrays
    about = {"rows": len(rows[0]), "split": "test", "batch_size": size, "draws": draws, "seed": seed, "step": steps[0]}
    result = {"format": 1, "data": opened.dataset.name} | about | {"left_out": left_out} | results[steps[0]]
    if len(steps) > 1:
        result["checkpoints"] = {str(step): results[step] for step in steps}
    write_json(run.folder / "compare.json", result)
    write_comparison(results, arrays, opened.dataset.numbers("test"), run.folder / "compare.nc")
    figures.comparison(results, run.folder / "compare.png")
    return result


def _taken(made: Mapping[str, Objective], opened: Opened, batch: Batch) -> tuple[dict[str, Objective], dict[str, str]]:
    """The objectives that take the pair, and why the others do not.

    Raises:
        InputError: none of them does.
    """
    reasons = {name: refusal(objective, opened.pair, batch) for name, objective in made.items()}
    taken = {name: objective for name, objective in made.items() if not reasons[name]}
    if not taken:
        raise InputError("; ".join(dict.fromkeys(reasons.values())))
    return taken, {name: reason for name, reason in reasons.items() if reason}


def _runs(
    runs: Sequence[RunLike],
    specs: Sequence[str],
    num_samples: Sequence[int],
    draws: int,
    seed: int,
    checkpoint: int | str,
    out: str | Path | None,
    progress: bool,
    opening: Mapping[str, Any],
) -> dict[str, Any]:
    if out is not None:
        check_file(Path(out).expanduser())
    made = named(specs, num_samples)
    if len(made) > 1:
        raise InputError(f"runs are compared by one objective, not by {', '.join(made)}")
    ((label, objective),) = made.items()
    values, configs, seen, first = {}, {}, set(), None
    with Progress(progress, len(runs)) as bar:
        for stream, run in enumerate(runs):
            run = run if isinstance(run, Run) else Run(Path(run))
            name = str(run.folder)
            if run.folder.resolve() in seen:
                raise InputError(f"{name} is named twice: name each run once")
            seen.add(run.folder.resolve())
            with isolated(seed):
                opened = open_run(run, checkpoint=checkpoint, **opening)
                first = first or opened
                _same_rows(first, opened)
                rows = opened.rows("test")
                values[name] = row_values(opened.pair, objective, rows, run.config.batch_size, draws, seed, stream)
            configs[name] = {**run.config.asdict(), "programs": run.record["programs"]}
            bar.advance()
    assert first is not None
    means: dict[str, dict[int, float]] = {}
    for group, names in groups_of(configs).items():
        by_seed = means.setdefault(group, {})
        for name in names:
            if configs[name]["seed"] in by_seed:
                raise InputError(f"{name} is a second run of one kind and seed: name one of the two")
            by_seed[configs[name]["seed"]] = values[name].mean[0].mean().item()
    about = {"data": first.dataset.name, "rows": first.dataset.lengths["test"], "split": "test", "draws": draws}
    result = {"format": 1} | about | {"seed": seed, "objective": label, "target": objective.target}
    result |= compare_rows(values) | {"over_seeds": compare_groups(means)}
    if out is not None:
        write_json(Path(out).expanduser(), result)
    return result


def _same_rows(first: Opened, other: Opened) -> None:
    """
    Raises:
        InputError: the held-out rows of two runs are not the same.
    """
    a, b = (opened.dataset.batches("test", CHUNK) for opened in (first, other))
    same_length = first.dataset.lengths["test"] == other.dataset.lengths["test"]
    if not same_length or not all(_equal(x, y) for x, y in zip(a, b, strict=True)):
        raise InputError(
            f"{first.run.folder} and {other.run.folder} have other test rows: compare runs of the same data, "
            "binarization and split seed"
        )


def _equal(a: Batch, b: Batch) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
