"""Numbers per datum at the present parameters: value, ELBO, rate and distortion."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.core.randomness import (
    kept,
    of_numpy_and_python,
    random_state,
    restore_numpy_and_python,
    restore_random_state,
    seed_all,
)
from ppl_vae.objectives import Objective
from ppl_vae.objectives.numbers import per_example
from ppl_vae.objectives.rate import rates_of
from ppl_vae.programs import Pair
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.state import evaluating
from ppl_vae.training.distributed import World


class Evaluation(NamedTuple):
    """Per-datum numbers over a split, in nats, each `(N,)`; and how the rate was had at each site.

    The rate is the KL in closed form where there is one, whatever the objective; so −distortion − rate is the ELBO in
    expectation, and at one draw only where the objective takes the same closed forms.
    """

    value: Tensor
    elbo: Tensor
    rate: Tensor
    distortion: Tensor
    how: dict[str, str]

    def summary(self) -> dict[str, Any]:
        """As `Sums.summary`."""
        return Sums().plus(torch.stack(self[:4])).summary(self.how)


@dataclass(frozen=True)
class Sums:
    """How many rows there were, the mean of each number, and the sum of its squared distances from it (Chan 1979).

    The numbers are value, ELBO, rate and distortion, so that mean and squares are `(4,)`.
    """

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))

    def plus(self, rows: Tensor) -> "Sums":
        """With more rows, `(4, B)`."""
        rows = rows.double().cpu()
        mean = rows.mean(1)
        return self.and_those(Sums(rows.shape[1], mean, (rows - mean.unsqueeze(1)).square().sum(1)))

    def and_those(self, others: "Sums") -> "Sums":
        """With the rows of others."""
        count = self.count + others.count
        if not self.count or not others.count:
            return self if self.count else others
        away = others.mean - self.mean
        mean = self.mean + away * (others.count / count)
        squares = self.squares + others.squares + away.square() * (self.count * others.count / count)
        return Sums(count, mean, squares)

    def summary(self, how: Mapping[str, str]) -> dict[str, Any]:
        """Means, and their standard errors over data, which hold the noise of the draws.

        Args:
            how: for each site `closed form`, or `Monte Carlo` with the reason; it is told as `rate_how`.
        """
        value, elbo, rate, distortion = self.mean.tolist()
        n = self.count
        errors = (self.squares / (n - 1) / n).sqrt().tolist() if n > 1 else [math.nan] * 4
        return {
            "objective": value,
            "objective_se_data": errors[0],
            "elbo": elbo,
            "elbo_se_data": errors[1],
            "rate": rate,
            "rate_se_data": errors[2],
            "rate_how": dict(how),
            "distortion": distortion,
        }


@torch.no_grad()
def evaluate(pair: Pair, objective: Objective, batches: Iterable[Batch], seed: int) -> Evaluation:
    """The objective's value at every row, at the noise of `seed`; the global random state is left as it was.

    There is one number per row, so that the size of the batches weights none. The programs are in evaluation mode, so
    that a BatchNorm is not moved either.

    Args:
        batches: the rows, on the device of the programs.
    """
    numbers, how = [], dict[str, str]()
    with kept(seed), evaluating(pair.model, pair.guide):
        for batch in batches:
            estimate = objective.estimate(pair.model, pair.guide, batch)
            numbers.append(per_example(objective, estimate))
            how = how or rates_of(estimate.terms)[1]
    value, elbo, rate, distortion = (torch.cat(parts).double() for parts in zip(*numbers, strict=True))
    return Evaluation(value, elbo, rate, distortion, how)


@torch.no_grad()
def summarized(
    pair: Pair, objective: Objective, batches: Iterable[Batch], seeds: Iterable[int], world: World | None = None
) -> dict[str, Any]:
    """`Sums.summary` of each row's mean over evaluations, one for each seed, as `evaluate` at that seed.

    No number of a row is kept. The global random states are left as they were.

    Args:
        batches: the rows, on the device of the programs; of several processes, those of this one.
        world: the processes whose rows are summed up; each of them gets the same numbers.
    """
    trained = [*pair.model.parameters(), *pair.guide.parameters()]
    device = trained[0].device if trained else torch.device("cpu")
    sums, how = Sums(), dict[str, str]()
    with kept(), evaluating(pair.model, pair.guide):
        states = []
        for seed in seeds:
            seed_all(seed)
            states.append(random_state(device) | of_numpy_and_python())
        for batch in batches:
            draws = []
            for i, state in enumerate(states):
                restore_random_state(state, device)
                restore_numpy_and_python(state)
                estimate = objective.estimate(pair.model, pair.guide, batch)
                draws.append(torch.stack(per_example(objective, estimate)).double())
                how = how or rates_of(estimate.terms)[1]
                states[i] = random_state(device) | of_numpy_and_python()
            sums = sums.plus(torch.stack(draws).mean(0))
    found = [(sums, how)] if world is None else world.gathered((sums, how))
    return reduce(Sums.and_those, (each for each, _ in found)).summary(found[0][1])
