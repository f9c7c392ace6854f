"""Numbers per datum at the present parameters: value, ELBO, rate and distortion."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.core.randomness import kept
from ppl_vae.objectives import Objective
from ppl_vae.objectives.numbers import per_example
from ppl_vae.objectives.rate import rates_of
from ppl_vae.programs import Pair
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.state import evaluating


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
        """Means, and their standard errors over data, which hold the noise of the draws.

        `rate_how`: for each site `closed form`, or `Monte Carlo` with the reason.
        """
        return {
            "objective": self.value.mean().item(),
            "objective_se_data": _se(self.value),
            "elbo": self.elbo.mean().item(),
            "elbo_se_data": _se(self.elbo),
            "rate": self.rate.mean().item(),
            "rate_se_data": _se(self.rate),
            "rate_how": self.how,
            "distortion": self.distortion.mean().item(),
        }


def _se(x: Tensor) -> float:
    return x.std().item() / len(x) ** 0.5 if len(x) > 1 else math.nan


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


def evaluate_afresh(
    pair: Pair, objective: Objective, batches: Callable[[], Iterable[Batch]], seed: int, draws: int
) -> dict[str, Any]:
    """`Evaluation.summary` of each row's mean over several evaluations, of the seeds from `seed` on.

    Args:
        batches: called once for each evaluation, gives the rows.
    """
    seen = [evaluate(pair, objective, batches(), seed + draw) for draw in range(draws)]
    fields = ([getattr(each, name) for each in seen] for name in ("value", "elbo", "rate", "distortion"))
    value, elbo, rate, distortion = (torch.stack(parts).mean(0) for parts in fields)
    return Evaluation(value, elbo, rate, distortion, seen[0].how).summary()
