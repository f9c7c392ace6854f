"""What one pass of an objective says, in numbers: value, ELBO, rate and distortion."""

import torch
from torch import Tensor

from ppl_vae.objectives.base import Objective, Pass
from ppl_vae.objectives.rate import rates_of
from ppl_vae.programs.scores import Batch, ProgramLike, log_weight, sum_sites


def per_example(objective: Objective, estimate: Pass) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, ELBO, rate and distortion of each example, `(B,)`: the rate in closed form at each site that has one."""
    terms = estimate.terms
    rates, _ = rates_of(terms)
    rate, distortion = (objective.expect(terms, sum_sites(x)) for x in (rates, terms.log_lik))
    return estimate.value, _elbo(objective, estimate), rate, -distortion


def _elbo(objective: Objective, estimate: Pass) -> Tensor:
    """The ELBO of each example, `(B,)`: the objective's own value, or from the same terms where that is another."""
    terms = estimate.terms
    return estimate.value if objective.target == "ELBO" else objective.expect(terms, log_weight(terms))


def followed(
    objective: Objective,
    model: ProgramLike,
    guide: ProgramLike,
    batch: Batch,
    rate_weight: float | Tensor | None = None,
) -> tuple[Pass, list[Tensor]]:
    """The pass whose loss a training step differentiates, and what the step saw: four sums over the batch, in nats.

    They are the value that is followed, in which the rate has its weight, then ELBO, rate and distortion without one.

    Args:
        rate_weight: how much the rate counts in the loss; None is 1.
    """
    estimate = objective.passed(model, guide, batch)
    weighted = estimate if rate_weight is None else objective.weighted(estimate, rate_weight)
    with torch.no_grad():
        numbers = weighted.value, *per_example(objective, estimate)[1:]
        return weighted, [x.sum() for x in numbers]
