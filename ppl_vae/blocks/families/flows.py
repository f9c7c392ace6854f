"""Families of q(z|x) that are flows."""

from collections.abc import Iterable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ConditionalAffineAutoregressive
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from ppl_vae.blocks.families.base import positive
from ppl_vae.core.errors import InputError


class InverseAutoregressiveFlow(nn.Module):
    """z_0 ~ N(μ, diag σ²); z_t = σ_t ⊙ z_{t−1} + (1 − σ_t) ⊙ m_t, with m_t and σ_t ∈ (0, 1) of z_{t−1} and h.

    (m_t, σ_t)_d depends on the dimensions of z_{t−1} before d alone, so that log det ∂z_t/∂z_{t−1} = Σ_d log σ_td. The
    order is reversed from step to step. μ, σ and the context h are outputs of the encoder. A draw and its density take
    one pass; the density at another value inverts the flow, one dimension after the other.

    Args:
        hidden: units of each autoregressive network, at least `dim`.

    Raises:
        InputError: `dim` is 1, for which there is nothing to regress on, or `hidden` is below `dim`.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016.
    """

    name = "iaf"

    def __init__(self, dim: int, steps: int = 2, hidden: int = 100, context: int = 20) -> None:
        super().__init__()
        if dim < 2:
            raise InputError("an autoregressive flow needs at least 2 dimensions: use DiagonalNormal for 1")
        if hidden < dim:
            raise InputError(
                f"hidden is {hidden}: an autoregressive network over {dim} dimensions needs at least {dim}"
            )
        self.dim, self.context = dim, context
        self.width = 2 * dim + context
        orders = [[*range(dim)], [*reversed(range(dim))]]
        self.orders = [orders[t % 2] for t in range(steps)]
        networks = [
            ConditionalAutoRegressiveNN(
                dim, context, [hidden], permutation=torch.tensor(order), nonlinearity=nn.Softplus()
            )
            for order in self.orders
        ]
        self.steps: Iterable[Any] = nn.ModuleList(ConditionalAffineAutoregressive(n, stable=True) for n in networks)

    def forward(self, raw: Tensor) -> dist.Distribution:
        loc, scale, h = raw.split([self.dim, self.dim, self.context], dim=-1)
        base = dist.Normal(loc, positive(scale)).to_event(1)
        transforms = [step.condition(h) for step in self.steps]
        for transform, order in zip(transforms, self.orders, strict=True):
            transform.arn.permutation = order  # Python's numbers for the inverse: a graph can't count by a tensor's
        return AutoregressiveFlow(base, transforms)


class AutoregressiveFlow(dist.TransformedDistribution):
    """Scores a value that only broadcasts against the batch, which Pyro's conditioned networks do not."""

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return super().log_prob(value if value.shape[:-1] == shape else value.expand(*shape, -1))
