"""An amortized guide put together from parts: q(z|x) = q(z; g(x)), with a family and a network g of choice.

Choose a part by editing its line, `self.family = families.LowRankNormal(latent_dim, rank=3)`, or without editing by
`--set family=low_rank_normal --set family.rank=3`.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import Part, Standardized, families, networks, space_of


class Guide(nn.Module):
    """`standardized`: the network sees the data on a common scale, else as they are."""

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 20,
        hidden: int = 400,
        family: Part = "diagonal_normal",
        network: Part = "mlp",
        standardized: bool = True,
        data: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.scale = Standardized(data_shape, data) if standardized else nn.Identity()
        self.family = families.build(family, latent_dim)
        self.encoder = networks.encoder(network, data_shape, self.family.width, hidden)
        self.space = space_of(self.family)
        self.infer = {"enumerate": "parallel"} if self.space == "classes" else None

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): the family at what the network makes of x."""
        return self.family(self.encoder(self.scale(x).flatten(x.dim() - len(self.data_shape))))

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x), infer=self.infer)
