"""The guide of a conditional VAE: q(z|x, y) = N(μ(x, y), diag σ(x, y)²) (Sohn, Lee & Yan 2015).

For `models/conditional.py`. y is the second field of the data: integer labels or real covariates.
x is standardized for the network, or seen as `guides/table.py` sees a table of some `kinds`.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import DiagonalNormal, Standardized, TableFeatures, as_features, concat, mlp


class Guide(nn.Module):
    """`y_standardized`: the network sees covariates in units of their spread, else as they are: on a common scale."""

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 20,
        hidden: int = 400,
        y_dim: int = 10,
        y_standardized: bool = False,
        kinds: str | None = None,
        data: Tensor | None = None,
        example: tuple[Tensor, ...] = (),
    ) -> None:
        super().__init__()
        self.data_shape, self.y_dim = data_shape, y_dim
        table = None if kinds is None or data is None else TableFeatures(data_shape, kinds, data)
        self.scale = Standardized(data_shape, data) if table is None else table
        self.y_scale = Standardized(example[1].shape[1:], example[1], always=True) if y_standardized else nn.Identity()
        self.family = DiagonalNormal(latent_dim)
        self.encoder = mlp((prod(data_shape) if table is None else table.size) + y_dim, hidden, self.family.width)

    def posterior(self, x: Tensor, y: Tensor) -> dist.Distribution:
        """q(z|x, y): swap these lines."""
        x = self.scale(x).flatten(x.dim() - len(self.data_shape))
        return self.family(self.encoder(concat(x, as_features(self.y_scale(y), self.y_dim, like=x))))

    def forward(self, x: Tensor, y: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x, y))
