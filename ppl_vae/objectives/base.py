"""What every objective is: a `pyro.infer.ELBO` whose author writes one short function of terms."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple, NoReturn

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.programs.terms import Batch, ProgramLike, Terms, terms


class Estimate(NamedTuple):
    """One pass of an objective over a batch.

    Args:
        value: the estimate of the objective for each example, `(B,)`, in nats, higher is better.
        surrogate: what is differentiated in its place, `(B,)`.
        terms: what both were computed from.
    """

    value: Tensor
    surrogate: Tensor
    terms: Terms


class Objective(ELBO):
    """An estimator of a bound on log p(x), for `pyro.infer.SVI` or, as `objective(model, guide)`, for any optimizer.

    As in Pyro, `loss` is the negative sum over the batch, times the scale of the programs' sites.

    Args:
        num_particles: K, samples of the guide per example, drawn in one vectorized pass.
    """

    target: ClassVar[str]
    """The bound that `value` estimates."""

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(num_particles=num_particles, vectorize_particles=True)

    @abstractmethod
    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        """Value and surrogate, each `(B,)`."""

    def estimate(self, model: ProgramLike, guide: ProgramLike, batch: Batch) -> Estimate:
        """Draw once, score once, and reduce to one value per example."""
        t = terms(model, guide, batch, self.num_particles)
        return Estimate(*self.per_example(t), t)

    def differentiable_loss(self, model: ProgramLike, guide: ProgramLike, *args: Tensor, **kwargs: Any) -> Tensor:
        """A scalar that is −scale · Σ value and has the surrogate's gradient."""
        _no_keywords(kwargs)
        value, surrogate, t = self.estimate(model, guide, args)
        return -t.scale * (surrogate + (value - surrogate).detach()).sum()

    def loss_and_grads(self, model: ProgramLike, guide: ProgramLike, *args: Tensor, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    @torch.no_grad()
    def loss(self, model: ProgramLike, guide: ProgramLike, *args: Tensor, **kwargs: Any) -> float:
        return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def _get_trace(self, *args: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} works on terms and has no single pair of traces")


def _no_keywords(kwargs: dict[str, Any]) -> None:
    if kwargs:
        raise TypeError(f"a batch is a tuple of tensors, given positionally; not {', '.join(kwargs)}=")
