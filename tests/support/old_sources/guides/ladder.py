"""A hierarchy inferred from the top down: q(z2|x) q(z1|x, z2), in the model's order (Sønderby et al. 2016).

For `models/hierarchical.py`. q(z1|x, z2) ∝ N(z1; d(x), diag s(x)²) p(z1|z2): the encoder's evidence, weighed against
the model's own prior by precision. p(z1|z2) is borrowed from the model. Without a warm-up of the rate, which that paper
found to be needed, it learns more slowly than `bottom_up.py`.
"""

from math import prod
from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import DiagonalNormal, Standardized, mlp


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

    def top_posterior(self, h: Tensor) -> dist.Distribution:
        """q(z2|x): swap this line."""
        return self.top_family(self.top_head(h))

    def posterior(self, h: Tensor, z2: Tensor) -> dist.Distribution:
        """q(z1|x, z2): swap these lines."""
        evidence, prior = self.family(self.head(h)), self.model.lower_prior(z2)
        a, b = evidence.variance, prior.variance
        return dist.Normal((b * evidence.mean + a * prior.mean) / (a + b), (a * b / (a + b)).sqrt()).to_event(1)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        h = self.trunk(self.scale(x).flatten(x.dim() - len(self.data_shape)))
        with pyro.plate("data", x.shape[0]):
            z2 = pyro.sample("z2", self.top_posterior(h))
            pyro.sample("z1", self.posterior(h, z2))
