"""A latent without a centre: z uniform on the unit sphere S^{d−1}, x_i | z ~ Bernoulli(sigmoid(f_i(z))).

The hyperspherical VAE of Davidson et al. (2018): with a normal prior, being far from the origin has a price; here no
point is special. For `guides/power_spherical.py`.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import SphericalUniform, mlp


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400) -> None:
        super().__init__()
        self.data_shape, self.latent_dim = data_shape, latent_dim
        self.decoder = mlp(latent_dim, hidden, prod(data_shape))

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return SphericalUniform(x.new_zeros(self.latent_dim))

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap these lines. z · √d has coordinates of size 1, which networks expect."""
        logits = self.decoder(z * self.latent_dim**0.5).unflatten(-1, self.data_shape)
        return dist.Bernoulli(logits=logits).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
