"""A VampPrior whose pseudo-inputs lie on a learned surface (Tomczak 2022): p(z) = Σ_c π_c q(z|f(u_c)).

The u_c are fixed points of a square grid and f a network, so that neighbours on the grid are alike: the generative
topographic mapping of Bishop, Svensén & Williams (1998), in data space. The guide is borrowed.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import GTMVampPrior, mlp


class Model(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        data: Tensor,
        guide: nn.Module,
        latent_dim: int = 20,
        hidden: int = 400,
        grid: int = 10,
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.p_z = GTMVampPrior(guide, data, grid)
        self.decoder = mlp(latent_dim, hidden, prod(data_shape))

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return self.p_z()

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line."""
        return dist.Bernoulli(logits=self.decoder(z).unflatten(-1, self.data_shape)).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
