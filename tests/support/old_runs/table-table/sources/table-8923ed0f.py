"""A VAE for tables with columns of different kinds and missing cells (Nazábal et al. 2020, HI-VAE).

x_d | z has the likelihood of its column's kind, and columns are independent given z, so that a missing cell (NaN, with
`--missing nan`) is integrated out by leaving its term away. `ppl_vae.evidence.imputation` predicts what stood there.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import MixedTable, mlp


class Model(nn.Module):
    """`kinds` is one kind for all columns or one for each: `--set kinds=real,positive,count,binary,categorical:3`."""

    def __init__(
        self, data_shape: tuple[int, ...], data: Tensor, kinds: str = "real", latent_dim: int = 10, hidden: int = 100
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.p_x = MixedTable(data_shape, kinds, data)
        self.decoder = mlp(latent_dim, hidden, self.p_x.size)

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z), of the cells that are there."""
        return self.p_x(self.decoder(z))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
