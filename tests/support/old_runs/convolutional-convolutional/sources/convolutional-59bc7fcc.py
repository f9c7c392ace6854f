"""The VAE of `bernoulli.py` with a convolutional decoder, for images: x_i | z ~ Bernoulli(sigmoid(f_i(z))).

Images are (height, width), (colours, height, width), or a row of n² numbers as in `mnist-5k`. With
`guides/convolutional.py`.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import conv_decoder


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, channels: int = 32) -> None:
        super().__init__()
        self.data_shape, self.latent_dim = data_shape, latent_dim
        self.decoder = conv_decoder(latent_dim, data_shape, channels)

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line."""
        return dist.Bernoulli(logits=self.decoder(z)).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
