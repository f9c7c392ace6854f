"""The guide of counts: q(z|x, s) = N(μ(log(1 + x), s), diag σ(log(1 + x), s)²) (Lopez et al. 2018).

For `models/cells.py`. log(1 + x) is standardized for the network. The library size says nothing that x does not.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import DiagonalNormal, Standardized, as_features, concat, mlp


class Guide(nn.Module):
    """`batches`: how many there are; 0 where none is given."""

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 10,
        hidden: int = 128,
        batches: int = 0,
        data: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.batches = batches
        self.scale = Standardized(data_shape, None if data is None else data.log1p())
        self.family = DiagonalNormal(latent_dim)
        self.encoder = mlp(data_shape[0] + batches, hidden, self.family.width)

    def posterior(self, x: Tensor, batch: Tensor | None) -> dist.Distribution:
        """q(z|x, s): swap these lines."""
        u = self.scale(x.log1p())
        if batch is not None:
            u = concat(u, as_features(batch, self.batches, like=u, name="batch", setting="batches"))
        return self.family(self.encoder(u))

    def forward(self, x: Tensor, library: Tensor, batch: Tensor | None = None) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x, batch))
