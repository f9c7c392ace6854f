"""What every objective is: a `pyro.infer.ELBO` that is defined by one short function of terms."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.core.errors import InputError, at_least
from ppl_vae.objectives.products import products_in
from ppl_vae.programs.passes import terms
from ppl_vae.programs.scores import Batch, ProgramLike, Terms, sum_sites


class Pass(NamedTuple):
    """What one pass of an objective over a batch gives.

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

    A new objective is a subclass in a file of `ppl_vae/objectives/` with a `name` and a method `per_example`. As in
    Pyro, `loss` is the negative sum over the batch, times the scale of the programs' sites.

    Args:
        num_particles: K, the number of samples of the guide per example, which are drawn in one vectorized pass.
        options: other arguments of Pyro's `ELBO`. With `vectorize_particles=False` the rows of the batch are repeated K
            times, and the samples get no dimension of their own. `max_plate_nesting` is found by running the programs
            once, if it is not given. `retain_graph` is as in Pyro. The others concern Pyro's own enumeration and
            TorchScript, and have no effect here.

    Raises:
        InputError: `num_particles` is below 1.
    """

    name: ClassVar[str]
    """Its name on the command line."""
    detached: ClassVar[bool] = False
    """Are the guide's draws held fixed, so that no gradient flows through them?"""
    target: str = "ELBO"
    """What `value` estimates. Values of two objectives can be compared only if they have the same target."""
    reference: ClassVar[int | None] = None
    """`compare` measures bias against another estimator of the same target, and prefers the lowest `reference`.

    None means that this objective is never used so.
    """
    products: torch.dtype | None = None
    """In which dtype `passed` multiplies matrices; None: in that of the programs."""
    warms_up: ClassVar[bool] = False
    """Is the value E_q[log p(x|z)] less a price of the latent, such as the rate, which a warm-up can weight?"""

    of_batch: ClassVar[bool] = False
    """Does the value of a row depend on which rows share its batch, by `mean_of_batch`?"""
    together: Callable[[Tensor], Tensor] | None = None
    """While several processes share a batch: the mean over its rows, from that over the rows of this process."""

    def __init__(self, num_particles: int = 1, **options: Any) -> None:
        at_least(1, getattr(self, "name", type(self).__name__), num_particles=num_particles)
        super().__init__(num_particles=num_particles, **{"vectorize_particles": True} | options)
        self.max_nesting = options.get("max_plate_nesting", math.inf)

    @abstractmethod
    def per_example(self, terms: Terms) -> tuple[Tensor, Tensor]:
        """The value of each example, and the surrogate that is differentiated in its place: each `(B,)`."""

    def expect(self, terms: Terms, x: Tensor) -> Tensor:
        """E_q[x] of each example, `(B,)`, from x, `(K, B)`, at the draws that `estimate` has scored."""
        return x.mean(0)

    def mean_of_batch(self, x: Tensor) -> Tensor:
        """The mean of x, `(K, B, …)`, over draws and all rows of the batch, without a gradient."""
        mean = x.detach().mean((0, 1))
        return mean if self.together is None else self.together(mean)

    def how(self, terms: Terms) -> dict[str, str]:
        """How each site is estimated, in words, for an objective that does not treat all sites alike."""
        return {}

    def estimate(self, model: ProgramLike, guide: ProgramLike, batch: Batch) -> Pass:
        """Draw from the guide once, score both programs once, and reduce the terms to one value per example."""
        t = terms(model, guide, batch, self.num_particles, detached=self.detached, **self.arrangement)
        return Pass(*self.per_example(t), t)

    def with_products(self, dtype: torch.dtype) -> Self:
        """The same objective, whose `passed` has matrix products in another dtype, and nothing else of it."""
        twin = copy.copy(self)
        twin.products = dtype
        return twin

    def passed(self, model: ProgramLike, guide: ProgramLike, batch: Batch) -> Pass:
        """`estimate` with matrix products in the dtype `products`: the pass that training differentiates."""
        with products_in(self.products):
            return self.estimate(model, guide, batch)

    def weighted(self, seen: Pass, weight: float | Tensor) -> Pass:
        """The same pass, in which the price R of the latent counts `weight` times: E_q[log p(x|z)] − w R.

        As the value is E_q[log p(x|z)] − R, this is w · value + (1 − w) · E_q[log p(x|z)]. For the ELBO, R is the rate.

        Raises:
            InputError: the value is not of this form, or a site has no reparameterized draw.
        """
        if not self.warms_up:
            raise InputError(
                f"{self.name}: a warm-up weights the rate, and this objective has no rate that stands by itself; leave "
                "out warmup, or use trace, analytic-kl, mean-field, beta or free-bits"
            )
        distortion = -self.expect(seen.terms, sum_sites(seen.terms.log_lik))
        value, surrogate = (weight * x - (1 - weight) * distortion for x in (seen.value, seen.surrogate))
        return Pass(value, surrogate, seen.terms)

    @property
    def arrangement(self) -> dict[str, Any]:
        """How the K samples are arranged in a pass, as the arguments of the constructor say."""
        return {"repeat": not self.vectorize_particles, "max_nesting": self.max_nesting}

    def differentiable_loss(self, model: ProgramLike, guide: ProgramLike, *args: Tensor, **kwargs: Any) -> Tensor:
        """The loss −scale · Σ value, a scalar, with the gradient of the surrogate.

        Args:
            args: the batch.
            kwargs: keyword arguments that both programs are called with.
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
    """Check that every site of the guide is reparameterized, for an objective that differentiates along the draws.

    Args:
        name: of the objective.

    Raises:
        InputError: a site has no reparameterized draw.
    """
    for site in terms.score_function:
        raise InputError(
            f"{name}: the guide's site {site!r} has no reparameterized draw (rsample); use trace or score-function"
        )
