"""Estimators side by side: the same parameters, the same rows, the same noise."""

import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ppl_vae.diagnostics.moments import Moments
from ppl_vae.objectives import Objective
from ppl_vae.programs import Pair, parameters
from ppl_vae.programs.terms import Batch, batches


@dataclass
class _Tally:
    """What is gathered, per estimator: for each row over draws; for gradients, summed over whole batches."""

    means: list[Tensor] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)
    gradient_variance: dict[str, float] = field(default_factory=dict)
    batches: int = 0


def compare_estimators(
    pair: Pair,
    objectives: Mapping[str, Objective],
    rows: Batch,
    *,
    batch_size: int,
    draws: int,
    seed: int = 0,
    step: Any = lambda: None,
) -> dict[str, Any]:
    """Value, variance, gradient variance and time of each objective, and their paired differences.

    Each draw gives every objective the same random state, so that estimators which draw the guide alike share ε.

    Args:
        rows: the data, kept fixed; taken `batch_size` at a time.
        draws: R, how often each estimator is repeated on each batch.
        step: called after each draw, for a progress bar.

    Returns:
        `estimators[name]`: `elbo`, nats per datum; `elbo_se`, its standard error over draws with the data fixed
        (`elbo_se_data` is that over data); `variance`, nats², of one draw's value for one datum, averaged over data;
        `gradient_variance`, summed over the parameters of model and of guide, of the gradient of the mean loss of
        one batch, averaged over batches, without a short last one; the same `_by_tensor`; `num_samples`, K;
        `seconds_per_step`, forward and backward, the median over the same batches.
        `pairs`: `difference` a − b of the means over the same draws, `se`, and z = difference/se (None where se = 0).
    """
    trained = parameters(pair.model, pair.guide, pair.borrower)
    seconds: dict[str, list[float]] = {name: [] for name in objectives}
    tallies = {name: _Tally() for name in objectives}
    differences = {pair_: _Tally() for pair_ in itertools.combinations(objectives, 2)}
    for index, batch in enumerate(batches(rows, batch_size)):
        whole = len(batch[0]) == min(batch_size, len(rows[0]))
        values = {name: Moments() for name in objectives}
        gradients = {name: Moments() for name in objectives}
        paired = {names: Moments() for names in differences}
        for draw in range(draws):
            value: dict[str, Tensor] = {}
            for name, objective in objectives.items():
                torch.manual_seed(_seed(seed, index, draw))
                start = time.perf_counter()
                value[name], gradient = _step(pair, objective, batch, trained)
                elapsed = time.perf_counter() - start
                values[name].add([value[name].double()])
                if whole:
                    gradients[name].add(gradient)
                    if draw:  # the first also warms up
                        seconds[name].append(elapsed)
            for a, b in differences:
                paired[a, b].add([value[a].double() - value[b].double()])
            step()
        for name in objectives:
            _add(tallies[name], values[name])
            if whole:
                _add_gradient(tallies[name], dict(zip(trained, gradients[name].variance, strict=True)))
        for names, moments in paired.items():
            _add(differences[names], moments)
    return {
        "estimators": {
            name: _estimator(tally, draws)
            | {"num_samples": objectives[name].num_particles, "seconds_per_step": median(seconds[name])}
            for name, tally in tallies.items()
        },
        "pairs": [_pair(a, b, tally, draws) for (a, b), tally in differences.items()],
    }


def _step(
    pair: Pair, objective: Objective, batch: Batch, trained: dict[str, torch.nn.Parameter]
) -> tuple[Tensor, list[Tensor]]:
    """Value per datum `(B,)` and gradient of the mean loss: what one training step computes."""
    estimate = objective.estimate(pair.model, pair.guide, batch)
    loss = -estimate.terms.scale * estimate.surrogate.mean()
    gradient = torch.autograd.grad(loss, list(trained.values()), allow_unused=True, materialize_grads=True)
    return estimate.value.detach(), list(gradient)


def _seed(seed: int, batch: int, draw: int) -> int:
    return ((seed * 1_000_003 + batch) * 1_000_003 + draw) % 2**63


def _add(tally: _Tally, moments: Moments) -> None:
    tally.means += moments.mean
    tally.variances += moments.variance


def _add_gradient(tally: _Tally, variances: Mapping[str, Tensor]) -> None:
    tally.batches += 1
    for name, variance in variances.items():
        summed = variance.sum(dtype=torch.float64).item()
        tally.gradient_variance[name] = tally.gradient_variance.get(name, 0.0) + summed


def _estimator(tally: _Tally, draws: int) -> dict[str, Any]:
    means, variances = torch.cat(tally.means), torch.cat(tally.variances)
    by_tensor = {name: v / tally.batches for name, v in tally.gradient_variance.items()}
    return {
        "elbo": means.mean().item(),
        "elbo_se": _se(variances, draws),
        "elbo_se_data": means.std().item() / math.sqrt(len(means)) if len(means) > 1 else None,
        "variance": variances.mean().item(),
        "gradient_variance": {
            kind: sum((v for name, v in by_tensor.items() if name.startswith(f"{kind}.")), 0.0)
            for kind in ("model", "guide")
        },
        "gradient_variance_by_tensor": by_tensor,
    }


def _se(variances: Tensor, draws: int) -> float:
    """Standard error of the mean over rows and draws, rows being independent given the data."""
    return math.sqrt(variances.sum().item() / draws) / len(variances)


def _pair(a: str, b: str, tally: _Tally, draws: int) -> dict[str, Any]:
    difference = torch.cat(tally.means).mean().item()
    se = _se(torch.cat(tally.variances), draws)
    return {"a": a, "b": b, "difference": difference, "se": se, "z": difference / se if se != 0 else None}
