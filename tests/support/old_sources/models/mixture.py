"""A VAE whose prior is a learned mixture of Gaussians, for data that fall into clusters.

p(z) = Σ_c π_c N(z; μ_c, diag σ_c²), a mixture over whole vectors z, not one in each dimension. Dilokthanakul et al.
(2016) and Jiang et al. (2017) draw c as a latent site of its own; here it is summed out.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import MixturePrior, mlp


class Model(nn.Module):
    def __init__(
        self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400, components: int = 10
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.p_z = MixturePrior(latent_dim, components)
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
