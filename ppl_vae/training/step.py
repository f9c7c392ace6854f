"""One training step behind a small interface: what `pyro.infer.SVI` does in a step, and what it leaves behind."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ppl_vae.core.errors import NotFinite, NumericalError
from ppl_vae.objectives import Objective
from ppl_vae.objectives.numbers import followed
from ppl_vae.programs import Pair, Terms, load_owned, owned, parameters
from ppl_vae.programs.scores import Batch
from ppl_vae.programs.state import buffers_kept
from ppl_vae.training.distributed import World
from ppl_vae.training.noise import Noise, TorchNoise


class Step(NamedTuple):
    """What one step saw, before it moved: sums over the batch, in nats, and the norm of the gradient.

    Under a warm-up `value` is what was followed, with the rate at its weight; the ELBO, the rate and the distortion are
    without a weight.
    """

    value: float
    elbo: float
    rate: float
    distortion: float
    gradient_norm: float


OF_SUM = "the loss or the gradient overflows as the parts of the processes are added up, though each part is finite"


class Undone(Exception):
    """Steps that were begun are as if they had not been, since one of them could not be taken: the first of them.

    Args:
        steps: how many.
        rows: how many rows they had together.
        error: what is not finite; None: the first of them can be taken now.
    """

    def __init__(self, steps: int, rows: int, error: NumericalError | None) -> None:
        super().__init__(f"{steps} steps are undone")
        self.steps, self.rows, self.error = steps, rows, error


class Stepper(Protocol):
    """How a pair is moved by one batch. The loop asks for nothing else, so that a captured step can stand here."""

    pair: Pair
    objective: Objective
    learning_rate: float
    rate_weight: float
    how: str

    def step(self, batch: Batch, share: float = 1.0) -> Step:
        """Take one step. Raises `NumericalError`, with everything as it was before, where a number is not finite.

        Of a batch that several processes share, `batch` has the rows of this one, which are a `share` of all. What is
        returned is of the whole batch.

        On a device that works while the host goes on, a step may only begin here. Its numbers are tensors then, 0 where
        it will not have been taken, and `Undone` is raised by a later step or by `settle`.
        """
        ...

    def settle(self) -> None:
        """Wait for the steps that were begun. Raises `Undone`."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on, by name: weights, moments of the optimizer, state of the noise."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        ...


@dataclass
class Trainer:
    """A `Stepper` that runs both programs as they are, with one fused Adam over the parameters of both.

    The loss is `Pass.loss`, the mean over the batch. A step whose loss or gradient is not finite is not taken.

    Args:
        world: the processes that take each step together.
        rate_weight: how much the rate counts in the loss, which a warm-up changes from step to step.
        how: what is to be said of how steps are taken.
    """

    pair: Pair
    objective: Objective
    lr: float = 1e-3
    clip: float | None = None
    noise: Noise = field(default_factory=TorchNoise)
    world: World = field(default_factory=World)
    rate_weight: float = 1.0
    how: str = ""

    def __post_init__(self) -> None:
        self.parameters = parameters(self.pair.model, self.pair.guide, self.pair.borrower)
        everything = [*self.pair.model.modules(), *self.pair.guide.modules()]
        self.with_buffers = [module for module in everything if module._buffers]
        self.moving: list[bool] | None = None  # which buffers a pass moves
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=self.lr, fused=True)

    def step(self, batch: Batch, share: float = 1.0) -> Step:
        """One gradient step.

        Raises:
            NumericalError: the loss or the gradient is not finite; names the site and rows, or the parameter. Weights,
                buffers and noise are as before the step.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self.noise.restore, self.noise.state())
            self.noise.begin()
            kept = buffers_kept(*self.with_buffers)  # as a BatchNorm's, which the pass moves
            stack.enter_context(kept)
            seen = self.backward(batch) if self.world.alone else self.backward_together(batch, share, kept)
            stack.pop_all()  # all is finite: they stay moved
        if self.clip is not None and seen.gradient_norm > self.clip:
            for p in self.parameters.values():
                if p.grad is not None:
                    p.grad.mul_(self.clip / seen.gradient_norm)
        self.optimizer.step()
        return seen

    def settle(self) -> None:
        """Nothing: each step has ended when `step` does."""

    def backward(self, batch: Batch) -> Step:
        """The gradients of one batch. Raises as `step`."""
        terms, numbers = self.passed(batch)
        seen = Step(*numbers.tolist())
        if not all(map(math.isfinite, seen)):
            raise diagnose(terms, self.parameters)
        return seen

    def passed(self, batch: Batch) -> tuple[Terms, Tensor]:
        """The pass over a batch, whose gradients are in the parameters; and the numbers of `Step`."""
        weight = None if self.rate_weight == 1 else self.rate_weight
        estimate, numbers = followed(self.objective, self.pair.model, self.pair.guide, batch, weight)
        for p in self.parameters.values():
            p.grad = None
        estimate.loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters.values() if p.grad is not None])
        return estimate.terms, torch.stack([*numbers, norm])

    def backward_together(self, batch: Batch, share: float, kept: buffers_kept) -> Step:
        """The gradients of a batch of which this process has a share.

        Args:
            kept: holds the buffers as they were before.

        Raises:
            NumericalError: as `step`, and in all processes.
        """
        with self.world.means_of_batches(self.objective, share):
            terms, numbers = self.passed(batch)
        for p in self.parameters.values():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]

        def explain() -> None:
            raise diagnose(terms, self.parameters)

        seen, gradients = self.reduced(numbers, gradients, share, kept, explain)
        for p, gradient in zip(self.parameters.values(), gradients, strict=True):
            p.grad = gradient
        return seen

    def reduced(
        self,
        numbers: Tensor,
        gradients: Sequence[Tensor],
        share: float,
        kept: buffers_kept,
        explain: Callable[[], None],
    ) -> tuple[Step, list[Tensor]]:
        """Numbers and gradients of the whole batch, whose buffers are put in place.

        Args:
            explain: raises what is not finite in the part of this process.

        Raises:
            NumericalError: one of them is not finite, in any process.
        """
        finite = not share or bool(numbers.isfinite().all())
        if self.moving is None:
            self.moving = self.world.any_of([not getattr(m, name).equal(before) for m, name, _, before in kept.buffers])
        buffers = [getattr(m, name) for (m, name, *_), moved in zip(kept.buffers, self.moving, strict=True) if moved]
        averaged = [b for b in buffers if b.is_floating_point()]
        numbers, of_all = self.world.reduce(numbers, gradients, averaged, share)
        seen = Step(*numbers.tolist())
        if not all(map(math.isfinite, seen)):
            with self.world.agreed():
                if not finite:
                    explain()
            raise NotFinite(OF_SUM)
        return seen, of_all

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, lr: float) -> None:
        self.optimizer.param_groups[0]["lr"] = lr

    def tensors(self) -> dict[str, Tensor]:
        """Weights and buffers; Adam's moments and step counts, by the names of the parameters; the noise's state."""
        weights = dict(owned(self.pair.model, self.pair.guide, self.pair.borrower))
        moments = {
            f"optimizer.{key}.{name}": tensor
            for name, p in self.parameters.items()
            for key, tensor in self.optimizer.state.get(p, {}).items()
        }
        return weights | moments | self.noise.state()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        load_owned(self.pair.model, self.pair.guide, dict(tensors), self.pair.borrower)
        for name, p in self.parameters.items():
            state = {
                key: tensors[f"optimizer.{key}.{name}"].clone().to(p.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.{key}.{name}" in tensors
            }
            if state:
                self.optimizer.state[p] = state
        self.noise.restore(tensors)


def diagnose(terms: Terms, trained: dict[str, nn.Parameter]) -> NotFinite:
    """Which number is not finite: a site's log-probability, with its rows of the batch, or a parameter's gradient."""
    for kind, sites in (("log q", terms.log_q), ("log p", terms.log_prior), ("log p", terms.log_lik)):
        for site, log_prob in sites.items():
            if rows := (~torch.isfinite(log_prob).all(0)).nonzero().flatten().tolist():
                return NotFinite(f"{kind} of site {site!r} is not finite", rows)
    for name, p in trained.items():
        if p.grad is not None and not torch.isfinite(p.grad).all():
            return NotFinite(f"the gradient of {name} is not finite, though every log-probability is")
    return NotFinite(
        "the loss or the norm of the gradient overflows, though every log-probability and every gradient is finite"
    )
