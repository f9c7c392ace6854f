"""A hierarchy inferred from the top down: q(z2|x) q(z1|x, z2), in the model's order (Sønderby et al. 2016).

For `models/hierarchical.py`. q(z1|x, z2) ∝ N(z1; d(x), diag (s(x)·σ(z2))²) p(z1|z2): the encoder's evidence, weighed
against the model's own prior N(μ(z2), diag σ(z2)²), which is borrowed from it. The paper has s(x)² for the variance of
the evidence. Then a prior that narrows takes all the weight, so that a dimension of z1 says nothing of x that z2 does
not, and stays so; here s(x) is in units of σ(z2), and the weight 1/(1 + s(x)²) of the evidence is the encoder's own.
A warm-up of the rate (`fit --warmup`) pays, as the paper found (docs/palette.md).
"""

from math import prod
from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import DiagonalNormal, Standardized, mlp

NARROW = -2.0
"""softplus(NARROW) = 0.13, the σ of both levels at first: a model learns to ignore a latent that is mostly noise."""


class Guide(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        model: Any,
        latent_dim: int = 20,
        top_dim: int = 10,
        hidden: int = 400,
        data: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.data_shape, self.model = data_shape, model
        self.scale = Standardized(data_shape, data)
        self.family, self.top_family = DiagonalNormal(latent_dim), DiagonalNormal(top_dim)
        self.trunk = nn.Sequential(nn.Linear(prod(data_shape), hidden), nn.Softplus())
        self.head, self.top_head = mlp(hidden, self.family.width), mlp(hidden, hidden, self.top_family.width)
        for net, dim in ((self.head, latent_dim), (self.top_head, top_dim)):
            *_, bias = net.parameters()
            bias.data[dim:] = NARROW

    def top_posterior(self, h: Tensor) -> dist.Distribution:
        """q(z2|x): swap this line."""
        return self.top_family(self.top_head(h))

    def posterior(self, h: Tensor, z2: Tensor) -> dist.Distribution:
        """q(z1|x, z2): swap these lines."""
        evidence, prior = self.family(self.head(h)), self.model.lower_prior(z2)
        w = 1 / (1 + evidence.variance)
        mean = w * evidence.mean + (1 - w) * prior.mean
        return dist.Normal(mean, prior.stddev * evidence.stddev * w.sqrt()).to_event(1)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        h = self.trunk(self.scale(x).flatten(x.dim() - len(self.data_shape)))
        with pyro.plate("data", x.shape[0]):
            z2 = pyro.sample("z2", self.top_posterior(h))
            pyro.sample("z1", self.posterior(h, z2))
