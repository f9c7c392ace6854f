"""The VAE of Kingma & Welling (2014) for binary data: z ~ N(0, I), x_i | z ~ Bernoulli(sigmoid(f_i(z)))."""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import mlp


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400) -> None:
        super().__init__()
        self.data_shape, self.latent_dim = data_shape, latent_dim
        self.decoder = mlp(latent_dim, hidden, prod(data_shape))

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line."""
        return dist.Bernoulli(logits=self.decoder(z).unflatten(-1, self.data_shape)).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
