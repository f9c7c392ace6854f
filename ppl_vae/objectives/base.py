"""What every objective is: a `pyro.infer.ELBO` whose author writes one short function of terms."""

import math
from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar, NamedTuple, NoReturn

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.core.errors import InputError
from ppl_vae.programs.passes import terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms


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

    @property
    def loss(self) -> Tensor:
        """−scale · mean of the surrogate over the batch: what one training step differentiates."""
        return -self.terms.scale * self.surrogate.mean()


class Objective(ELBO):
    """An estimator of a bound on log p(x), for `pyro.infer.SVI` or, as `objective(model, guide)`, for any optimizer.

    As in Pyro, `loss` is the negative sum over the batch, times the scale of the programs' sites.

    Args:
        num_particles: K, samples of the guide per example, drawn in one vectorized pass.
        options: what else Pyro's `ELBO` takes. `vectorize_particles=False` repeats the rows of the batch K times in
            place of a dimension for the samples; `max_plate_nesting` spares the run that finds it out; `retain_graph`
            is as in Pyro; the others concern Pyro's own enumeration and TorchScript, and change nothing here.
    """

    name: ClassVar[str]
    """What it is called on the command line."""
    detached: ClassVar[bool] = False
    """Are the guide's draws cut out of the gradient?"""
    target: str = "ELBO"
    """What `value` estimates. Estimators of one target are comparable; of two, they are not."""

    def __init__(self, num_particles: int = 1, **options: Any) -> None:
        if num_particles < 1:
            raise InputError(f"{self.name}: num_particles is {num_particles}: it must be at least 1")
        super().__init__(num_particles=num_particles, **{"vectorize_particles": True} | options)
        self.max_nesting = options.get("max_plate_nesting", math.inf)

    @abstractmethod
    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        """Value and surrogate, each `(B,)`."""

    def expect(self, terms: Terms, x: Tensor) -> Tensor:
        """E_q of x, `(K, B)`, over the values that `estimate` scored: `(B,)`."""
        return x.mean(0)

    def how(self, terms: Terms) -> dict[str, str]:
        """What there is to say of a site's estimate, where sites are not all treated alike."""
        return {}

    def estimate(self, model: ProgramLike, guide: ProgramLike, batch: Batch) -> Estimate:
        """Draw once, score once, and reduce to one value per example."""
        t = terms(model, guide, batch, self.num_particles, detached=self.detached, **self.arrangement)
        return Estimate(*self.per_example(t), t)

    @property
    def arrangement(self) -> dict[str, Any]:
        """How the K samples are arranged in a pass, where the constructor was told."""
        return {"repeat": not self.vectorize_particles, "max_nesting": self.max_nesting}

    def differentiable_loss(self, model: ProgramLike, guide: ProgramLike, *args: Tensor, **kwargs: Any) -> Tensor:
        """A scalar that is −scale · Σ value and has the surrogate's gradient.

        Args:
            args: the batch.
            kwargs: what else both programs are called with.
        """
        if kwargs:
            model, guide = partial(model, **kwargs), partial(guide, **kwargs)
        value, surrogate, t = self.estimate(model, guide, args)
        return -t.scale * (surrogate + (value - surrogate).detach()).sum()

    def loss_and_grads(self, model: ProgramLike, guide: ProgramLike, *args: Tensor, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return loss.item()

    @torch.no_grad()
    def loss(self, model: ProgramLike, guide: ProgramLike, *args: Tensor, **kwargs: Any) -> float:
        return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def _get_trace(self, *args: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} works on terms and has no single pair of traces")


def need_paths(terms: Terms, name: str) -> None:
    """
    Raises:
        InputError: a site of the guide has no reparameterized draw, along which `name` could differentiate.
    """
    for site in terms.score_function:
        raise InputError(
            f"{name}: the guide's site {site!r} has no reparameterized draw (rsample); use trace or score-function"
        )
