"""Estimators on the test rows of one run, and several runs on the same test rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ppl_vae.core.errors import InputError
from ppl_vae.diagnostics.compare import compare_estimators, refusal
from ppl_vae.diagnostics.estimators import named
from ppl_vae.diagnostics.results import Comparison
from ppl_vae.diagnostics.run_comparison import RunComparison
from ppl_vae.diagnostics.runs import compare_groups, differences, groups_of, row_values, value_of
from ppl_vae.objectives import Objective
from ppl_vae.programs.scores import Batch, batches
from ppl_vae.runs.opening import Opened, open_run
from ppl_vae.runs.run import Run
from ppl_vae.training.progress import Progress

CHUNK = 1000  # rows at a time


def compare_on_run(
    run: Run,
    specs: Sequence[str],
    *,
    num_samples: Sequence[int],
    checkpoints: Sequence[int | str],
    draws: int,
    seed: int,
    progress: bool,
    twins: bool = False,
    **opening: Any,
) -> tuple[Comparison, torch.Tensor]:
    """Estimators at each of the checkpoints; and the numbers of the test rows in the data.

    Args:
        twins: each estimator also with matrix products in bfloat16.

    Raises:
        InputError: every objective refuses the pair.
    """
    steps = list(dict.fromkeys(run.step(checkpoint) for checkpoint in checkpoints))
    made = named(specs, num_samples, run.objective_settings)
    if twins and run.config.precision == "float64":
        raise InputError(
            f"{run.folder} is of float64, and bfloat16 stands in the place of float32: leave precision out"
        )
    if twins:
        made |= {f"{name} in bfloat16": objective.with_products(torch.bfloat16) for name, objective in made.items()}
    results = {}
    with run.isolated(seed):
        opened = open_run(run, checkpoint=steps[0], **opening)
        rows, size = opened.rows("test"), run.config.batch_size
        made, left_out = _taken(made, opened, next(batches(rows, size)))
        with Progress(progress, len(steps) * draws * -(-len(rows[0]) // size)) as bar:
            for step in steps:
                opened = opened if step == steps[0] else open_run(run, checkpoint=step, **opening)
                results[step] = compare_estimators(
                    opened.pair, made, rows, batch_size=size, draws=draws, seed=seed, advance=bar.advance
                )
    about = opened.dataset.name, len(rows[0]), "test", size
    comparison = Comparison(*about, draws=draws, seed=seed, left_out=left_out, checkpoints=results)
    return comparison, opened.dataset.numbers("test")


def _taken(made: Mapping[str, Objective], opened: Opened, batch: Batch) -> tuple[dict[str, Objective], dict[str, str]]:
    """The objectives that take the pair, and why the others do not."""
    reasons = {name: refusal(objective, opened.pair, batch) for name, objective in made.items()}
    taken = {name: objective for name, objective in made.items() if not reasons[name]}
    if not taken:
        raise InputError("; ".join(dict.fromkeys(reasons.values())))
    return taken, {name: reason for name, reason in reasons.items() if reason}


def compare_runs(
    runs: Sequence[Run],
    specs: Sequence[str],
    *,
    num_samples: Sequence[int],
    checkpoint: int | str,
    draws: int,
    seed: int,
    progress: bool,
    **opening: Any,
) -> RunComparison:
    """Runs by one objective, on test rows that must be the same.

    Raises:
        InputError: several objectives, a run that is named twice, or other test rows.
    """
    made = named(specs, num_samples)
    if len(made) > 1:
        raise InputError(f"runs are compared by one objective, not by {', '.join(made)}")
    ((label, objective),) = made.items()
    values, configs, seen, first = {}, {}, set(), None
    with Progress(progress, len(runs)) as bar:
        for stream, run in enumerate(runs):
            name = str(run.folder)
            if run.folder.resolve() in seen:
                raise InputError(f"{name} is named twice: name each run once")
            seen.add(run.folder.resolve())
            with run.isolated(seed):
                opened = open_run(run, checkpoint=checkpoint, **opening)
                first = first or opened
                _same_rows(first, opened)
                rows = opened.rows("test")
                values[name] = row_values(opened.pair, objective, rows, run.config.batch_size, draws, seed, stream)
            configs[name] = {**run.config.asdict(), "programs": run.record["programs"]}
            bar.advance()
    assert first is not None
    means = {name: m.mean[0].mean().item() for name, m in values.items()}
    return RunComparison(
        data=first.dataset.name,
        rows=first.dataset.lengths["test"],
        split="test",
        draws=draws,
        seed=seed,
        objective=label,
        target=objective.target,
        runs={name: value_of(m) for name, m in values.items()},
        pairs=differences(values),
        over_seeds=compare_groups(_by_seed(means, configs)),
    )


def _by_seed(means: Mapping[str, float], configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """For each group of runs that differ in their seed alone, the mean by seed."""
    found: dict[str, dict[int, float]] = {}
    for group, names in groups_of(configs).items():
        by_seed = found.setdefault(group, {})
        for name in names:
            if configs[name]["seed"] in by_seed:
                raise InputError(f"{name} is a second run of one kind and seed: name one of the two")
            by_seed[configs[name]["seed"]] = means[name]
    return found


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
    """Up to the fewer digits of two dtypes."""
    return len(a) == len(b) and all(
        torch.equal(*(each.to(min(x.dtype, y.dtype, key=lambda dtype: dtype.itemsize)) for each in (x, y)))
        for x, y in zip(a, b, strict=True)
    )
