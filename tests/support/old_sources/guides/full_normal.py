"""A guide with correlations: q(z|x) = N(μ(x), L(x) L(x)ᵀ), L lower triangular (Kingma & Welling 2019).

Its other families are one line away: `LowRankNormal` (Ong, Nott & Smith 2018), `HouseholderNormal` (Tomczak & Welling
2016) and `MixtureNormal`, each from `ppl_vae.blocks`.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import FullNormal, Standardized, mlp


class Guide(nn.Module):
    def __init__(
        self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400, data: Tensor | None = None
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.scale = Standardized(data_shape, data)
        self.family = FullNormal(latent_dim)  # swap this line
        self.encoder = mlp(prod(data_shape), hidden, self.family.width)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): the family at what the network makes of x."""
        return self.family(self.encoder(self.scale(x).flatten(x.dim() - len(self.data_shape))))

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x))
