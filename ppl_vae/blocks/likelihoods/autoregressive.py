"""A likelihood of binary data that needs no latent variable: each dimension is predicted from those before it."""

from math import prod
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ppl_vae.blocks.likelihoods.base import check_size
from ppl_vae.core.errors import InputError, at_least


def autoregressive_network(
    data_shape: tuple[int, ...], context: int, hidden: int, window: int | None = None
) -> nn.Module:
    """f: `(..., D), (..., context) -> (..., D)`, where output d sees the context and the inputs before d alone.

    One masked hidden layer, and masked connections past it. Source: MADE, Germain et al. 2015; with a context, Paige &
    Wood 2016.

    Args:
        window: W: output d sees of the inputs no others than the W before d; by default all before d. A decoder that
            sees less leaves more for the context to say (Chen et al. 2017).

    Raises:
        InputError: `hidden` is below D, so that not every dimension could reach all that follow; W is below 2.
    """
    D = prod(data_shape)
    if hidden < D:
        raise InputError(f"hidden is {hidden}: an autoregressive network over {D} dimensions needs at least {D}")
    order = torch.arange(D)
    network = ConditionalAutoRegressiveNN(
        D, context, [hidden], [1], permutation=order, skip_connections=True, nonlinearity=nn.Softplus()
    )
    if window is not None:
        at_least(2, window=window)
        _narrow(network, D, context, window)
    return network


def _narrow(network: Any, D: int, context: int, window: int) -> None:
    """Mask what is more than `window` dimensions back.

    A hidden unit of degree m sees the inputs up to m, and keeps those from m − `near` on. Output d sees the units of
    degrees up to d − 1, and keeps those from d − 1 − `far` on. So it reaches back to input d − 1 − near − far = d − W.
    """
    first, last = network.layers
    d = torch.arange(1, D + 1)  # as Pyro counts dimensions: output d sees inputs up to d − 1
    degree = first.mask[:, context:].sum(1)
    near = (window - 1) // 2
    far = window - 1 - near
    first.mask[:, context:] *= d >= degree.unsqueeze(-1) - near
    last.mask *= degree >= d.unsqueeze(-1) - 1 - far
    network.skip_layer.mask[:, context:] *= d >= d.unsqueeze(-1) - window


class Autoregressive(nn.Module):
    """p(x|z) = Π_d Bernoulli(x_d; sigmoid(f_d(x_<d, c))), x in {0, 1}, where the network gives the context c.

    Args:
        context: how many numbers c has; by default as many as x.
        hidden: units of f's layer; by default as many as x, which is the least.
        window: W: x_d sees no others than the W before it; by default all before it.

    Raises:
        InputError: `hidden` is below the number of dimensions of x; W is below 2.

    Source: Germain et al. 2015; as the likelihood of a VAE, Chen et al. 2017.
    """

    name = "autoregressive"

    def __init__(
        self,
        data_shape: tuple[int, ...],
        context: int | None = None,
        hidden: int | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.data_shape = tuple(data_shape)
        if context is None:
            self.params = 1
        self.size = prod(data_shape) if context is None else context
        units = prod(data_shape) if hidden is None else hidden
        self.network = autoregressive_network(data_shape, self.size, units, window)

    def forward(self, context: Tensor) -> dist.Distribution:
        """`(..., size)` to a distribution of batch shape `(...)`. Raises as any likelihood."""
        check_size(self, context)
        return AutoregressiveBernoulli(self.network, context, self.data_shape)


class AutoregressiveBernoulli(TorchDistribution):
    """p(x|z) = Π_d Bernoulli(x_d; sigmoid(f_d(x_<d, z))), over binary x.

    `log_prob` is one pass of f; a draw takes D, one dimension after the other. Strong enough to ignore z.

    Args:
        network: f, an `autoregressive_network`.
        context: z, `batch + (context,)`.
        data_shape: the shape of x, in whose row-major order the dimensions follow each other.

    Source: Germain et al. 2015; as the decoder of a VAE, Chen et al. 2017.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"context": constraints.real_vector}

    def __init__(
        self, network: nn.Module, context: Tensor, data_shape: tuple[int, ...], validate_args: bool | None = None
    ) -> None:
        self.network, self.context = network, context
        super().__init__(context.shape[:-1], torch.Size(data_shape), validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.independent(constraints.boolean, len(self.event_shape))

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> "AutoregressiveBernoulli":
        context = self.context.expand(*batch_shape, -1)
        return AutoregressiveBernoulli(self.network, context, self.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[: value.dim() - self.event_dim], self.batch_shape)
        x = value.expand(*shape, *self.event_shape).flatten(len(shape))
        logits = self.network(x, self.context.expand(*shape, -1))
        return -binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = self._extended_shape(sample_shape)
        lead = shape[: len(shape) - self.event_dim]
        context = self.context.expand(*lead, -1)
        x = context.new_zeros(*lead, self.event_shape.numel())
        for d in range(x.shape[-1]):
            x[..., d] = self.network(x, context)[..., d].sigmoid().bernoulli()
        return x.reshape(shape)
