"""One training step, and an evaluation on held-out rows: the loop that `pyro.infer.SVI` stands for."""

import contextlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ppl_vae.core.errors import NumericalError
from ppl_vae.core.randomness import seed_torch
from ppl_vae.objectives import Objective, Pass
from ppl_vae.objectives.rate import rates_of
from ppl_vae.programs import Pair, Terms, parameters
from ppl_vae.programs.scores import Batch, batches, log_weight, sum_sites
from ppl_vae.programs.state import buffers_kept, evaluating


class Step(NamedTuple):
    """What one step saw, before it moved: sums over the batch, in nats, and the norm of the gradient."""

    value: float
    elbo: float
    rate: float
    distortion: float
    gradient_norm: float


@dataclass
class Trainer:
    """A pair, an objective and one fused Adam over the parameters of both.

    The loss is the mean over the batch of −surrogate, times the sites' scale. A step whose loss or gradient is not
    finite is not taken.
    """

    pair: Pair
    objective: Objective
    lr: float = 1e-3
    clip: float | None = None

    def __post_init__(self) -> None:
        self.parameters = parameters(self.pair.model, self.pair.guide, self.pair.borrower)
        everything = [*self.pair.model.modules(), *self.pair.guide.modules()]
        self.with_buffers = [module for module in everything if module._buffers]
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=self.lr, fused=True)

    def step(self, batch: Batch) -> Step:
        """One gradient step.

        Raises:
            NumericalError: the loss or the gradient is not finite; names the site and rows, or the parameter.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(buffers_kept(*self.with_buffers))  # as a BatchNorm's, which the pass moves
            seen = self.backward(batch)
            stack.pop_all()  # all is finite: they stay moved
        if self.clip is not None and seen.gradient_norm > self.clip:
            for p in self.parameters.values():
                if p.grad is not None:
                    p.grad.mul_(self.clip / seen.gradient_norm)
        self.optimizer.step()
        return seen

    def backward(self, batch: Batch) -> Step:
        """The gradients of one batch. Raises as `step`."""
        estimate = self.objective.estimate(self.pair.model, self.pair.guide, batch)
        loss = -estimate.terms.scale * estimate.surrogate.mean()
        for p in self.parameters.values():
            p.grad = None
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters.values() if p.grad is not None])
        with torch.no_grad():
            numbers = _per_example(self.objective, estimate)
            seen = Step(*torch.stack([*(x.sum() for x in numbers), norm]).tolist())
        if not all(map(math.isfinite, seen)):
            raise diagnose(estimate.terms, self.parameters)
        return seen

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, lr: float) -> None:
        self.optimizer.param_groups[0]["lr"] = lr

    def optimizer_state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts, by the names of the parameters."""
        return {
            f"optimizer.{key}.{name}": tensor
            for name, p in self.parameters.items()
            for key, tensor in self.optimizer.state.get(p, {}).items()
        }

    def load_optimizer_state(self, tensors: dict[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            state = {
                key: tensors[f"optimizer.{key}.{name}"].clone().to(p.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.{key}.{name}" in tensors
            }
            if state:
                self.optimizer.state[p] = state


def _elbo(objective: Objective, estimate: Pass) -> Tensor:
    """The ELBO of each example, `(B,)`: the objective's own value, or from the same terms where that is another."""
    terms = estimate.terms
    return estimate.value if objective.target == "ELBO" else objective.expect(terms, log_weight(terms))


def _per_example(objective: Objective, estimate: Pass) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, ELBO, rate and distortion of each example, `(B,)`: the rate in closed form at each site that has one."""
    terms = estimate.terms
    rates, _ = rates_of(terms)
    rate, distortion = (objective.expect(terms, sum_sites(x)) for x in (rates, terms.log_lik))
    return estimate.value, _elbo(objective, estimate), rate, -distortion


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
def evaluate(pair: Pair, objective: Objective, rows: Batch, batch_size: int, seed: int) -> Evaluation:
    """The objective's value at every row, at the noise of `seed`; the global random state is left as it was.

    One number per row, so the size of the batches does not weight any; in evaluation mode, so that it does not move a
    BatchNorm either.
    """
    numbers, how = [], dict[str, str]()
    with torch.random.fork_rng(), evaluating(pair.model, pair.guide):
        seed_torch(seed)
        for batch in batches(rows, batch_size):
            estimate = objective.estimate(pair.model, pair.guide, batch)
            numbers.append(_per_example(objective, estimate))
            how = how or rates_of(estimate.terms)[1]
    value, elbo, rate, distortion = (torch.cat(parts).double() for parts in zip(*numbers, strict=True))
    return Evaluation(value, elbo, rate, distortion, how)


def evaluate_afresh(
    pair: Pair, objective: Objective, rows: Batch, batch_size: int, seed: int, draws: int
) -> dict[str, Any]:
    """`Evaluation.summary` of each row's mean over several evaluations, of the seeds from `seed` on."""
    seen = [evaluate(pair, objective, rows, batch_size, seed + draw) for draw in range(draws)]
    fields = ([getattr(each, name) for each in seen] for name in ("value", "elbo", "rate", "distortion"))
    value, elbo, rate, distortion = (torch.stack(parts).mean(0) for parts in fields)
    return Evaluation(value, elbo, rate, distortion, seen[0].how).summary()


def diagnose(terms: Terms, trained: dict[str, nn.Parameter]) -> NumericalError:
    """Which number is not finite: a site's log-probability, with its rows of the batch, or a parameter's gradient."""
    for kind, sites in (("log q", terms.log_q), ("log p", terms.log_prior), ("log p", terms.log_lik)):
        for site, log_prob in sites.items():
            if rows := (~torch.isfinite(log_prob).all(0)).nonzero().flatten().tolist():
                return NumericalError(f"{kind} of site {site!r} is not finite", rows)
    for name, p in trained.items():
        if p.grad is not None and not torch.isfinite(p.grad).all():
            return NumericalError(f"the gradient of {name} is not finite, though every log-probability is")
    return NumericalError(
        "the loss or the norm of the gradient overflows, though every log-probability and every gradient is finite"
    )
