"""A VAE for counts with too many zeros, such as those of genes in single cells (Lopez et al. 2018, scVI).

x_i | z is 0 with probability π_i(z), else negative binomial with mean μ_i(z) and variance μ_i + μ_i²/θ_i, θ learned.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import likelihoods, mlp


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], data: Tensor, latent_dim: int = 20, hidden: int = 128) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.p_x = likelihoods.ZeroInflatedNegativeBinomial(data_shape, data)
        self.decoder = mlp(latent_dim, hidden, self.p_x.size)

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line and `p_x`."""
        return self.p_x(self.decoder(z))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
