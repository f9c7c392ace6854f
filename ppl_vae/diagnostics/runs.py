"""Runs side by side: the same held-out rows, datum by datum; and over seeds, where there are several."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.moments import Moments
from ppl_vae.core.randomness import draw_seed, seed_torch
from ppl_vae.core.statistics import Estimate
from ppl_vae.diagnostics.run_comparison import RunDifference, RunValue, SeedDifference
from ppl_vae.graphs.calls import compilable
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair
from ppl_vae.programs.scores import Batch, ProgramLike, batches

KEEPING = ("seed", "checkpoint_every", "keep_every", "device", "threads", "compile")


@torch.no_grad()
def row_values(
    pair: Pair, objective: Objective, rows: Batch, batch_size: int, draws: int, seed: int, stream: int
) -> Moments:
    """The objective at each row, `(N,)`: moments over draws, with the noise of `seed` and `stream`."""
    moments = Moments()
    for draw in range(draws):
        seed_torch(draw_seed(seed, 0, draw, stream))
        parts = [_values(pair.model, pair.guide, objective, batch) for batch in batches(rows, batch_size)]
        moments.add([torch.cat(parts).double()])
    return moments


@compilable
def _values(model: ProgramLike, guide: ProgramLike, objective: Objective, batch: Batch) -> Tensor:
    return objective.estimate(model, guide, batch).value


def value_of(m: Moments) -> RunValue:
    """A run's mean over rows."""
    rows = m.mean[0]
    mean = rows.mean().item()
    return RunValue(Estimate(mean, _se_mc(m), "draws"), Estimate(mean, _se(rows), "data"))


def differences(runs: Mapping[str, Moments]) -> tuple[RunDifference, ...]:
    """The paired differences of every two runs."""
    return tuple(_difference(a, b, runs[a], runs[b]) for a, b in itertools.combinations(runs, 2))


def compare_groups(means: Mapping[str, Mapping[int, float]]) -> tuple[SeedDifference, ...]:
    """Differences of the means of groups of runs that differ in their seed alone, with standard errors over seeds.

    Paired by seed where both groups have the same seeds, at least two; else, with two runs in each, Welch's. With few
    seeds t has heavy tails: `df` are its degrees of freedom, of Welch's at least.

    Args:
        means: for each group, the mean over rows by seed.
    """
    found = []
    for a, b in itertools.combinations(means, 2):
        if set(means[a]) == set(means[b]) and len(means[a]) > 1:
            differences = torch.tensor([means[a][s] - means[b][s] for s in means[a]], dtype=torch.float64)
            difference, se, how = differences.mean().item(), _se(differences), "paired by seed"
            df = len(differences) - 1
        elif min(len(means[a]), len(means[b])) > 1:
            x, y = (torch.tensor(list(means[g].values()), dtype=torch.float64) for g in (a, b))
            difference, se, how = (x.mean() - y.mean()).item(), math.hypot(_se(x), _se(y)), "unpaired"
            df = min(len(x), len(y)) - 1
        else:
            continue
        seeds = [sorted(means[g]) for g in (a, b)]
        found.append(SeedDifference(a, b, Estimate(difference, se, "seeds"), df, seeds, how))
    return tuple(found)


def groups_of(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Sequence[str]]:
    """Names of runs that differ in nothing but the seed (and in how they were kept), under the name of the first."""
    groups: dict[str, list[str]] = {}
    seen: list[tuple[Any, str]] = []
    for name, config in configs.items():
        rest = {key: value for key, value in config.items() if key not in KEEPING}
        first = next((label for other, label in seen if other == rest), name)
        if first == name:
            seen.append((rest, name))
        groups.setdefault(first, []).append(name)
    return dict(groups)


def _difference(a: str, b: str, x: Moments, y: Moments) -> RunDifference:
    rows = x.mean[0] - y.mean[0]
    mean, se_mc = rows.mean().item(), math.hypot(_se_mc(x), _se_mc(y))
    return RunDifference(a, b, Estimate(mean, se_mc, "draws"), Estimate(mean, _se(rows), "data"))


def _se_mc(moments: Moments) -> float:
    variance = moments.variance[0]
    return math.sqrt(variance.sum().item() / moments.count) / len(variance)


def _se(x: Tensor) -> float:
    return x.std().item() / math.sqrt(len(x)) if len(x) > 1 else math.nan
