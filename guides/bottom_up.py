"""A hierarchy inferred from the data upwards: q(z1|x) q(z2|z1), against the model's order (Rezende et al. 2014).

For `models/hierarchical.py`. z2 sees x through z1 alone. As z1 is drawn before z2, on which its prior depends, no KL of
one site is valid by itself: the rate is estimated by Monte Carlo.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import DiagonalNormal, Standardized, mlp


class Guide(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 20,
        top_dim: int = 10,
        hidden: int = 400,
        data: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.scale = Standardized(data_shape, data)
        self.family, self.top_family = DiagonalNormal(latent_dim), DiagonalNormal(top_dim)
        self.encoder = mlp(prod(data_shape), hidden, self.family.width)
        self.top_encoder = mlp(latent_dim, hidden, self.top_family.width)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z1|x): swap this line."""
        return self.family(self.encoder(self.scale(x).flatten(x.dim() - len(self.data_shape))))

    def top_posterior(self, z1: Tensor) -> dist.Distribution:
        """q(z2|z1): swap this line."""
        return self.top_family(self.top_encoder(z1))

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            z1 = pyro.sample("z1", self.posterior(x))
            pyro.sample("z2", self.top_posterior(z1))
