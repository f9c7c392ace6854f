"""The guide of a conditional VAE: q(z|x, y) = N(μ(x, y), diag σ(x, y)²) (Sohn, Lee & Yan 2015).

For `models/conditional.py`. y is the second field of the data: integer labels or real covariates.
x is standardized for the network; covariates are read as they are, so bring them to a common scale.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import DiagonalNormal, Standardized, as_features, concat, mlp


class Guide(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 20,
        hidden: int = 400,
        y_dim: int = 10,
        data: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.data_shape, self.y_dim = data_shape, y_dim
        self.scale = Standardized(data_shape, data)
        self.family = DiagonalNormal(latent_dim)
        self.encoder = mlp(prod(data_shape) + y_dim, hidden, self.family.width)

    def posterior(self, x: Tensor, y: Tensor) -> dist.Distribution:
        """q(z|x, y): swap these lines."""
        x = self.scale(x).flatten(x.dim() - len(self.data_shape))
        return self.family(self.encoder(concat(x, as_features(y, self.y_dim, like=x))))

    def forward(self, x: Tensor, y: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x, y))
