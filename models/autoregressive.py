"""A decoder that can do without z: p(x|z) = Π_d p(x_d | x_<d, z), by masking (Germain et al. 2015; Chen et al. 2017).

What z could say, the dimensions before say as well, and telling it through z costs the rate: q(z|x) tends to the prior.
This is the model on which posterior collapse is studied. With `window=W` a dimension sees only the W before it.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import AutoregressiveBernoulli, autoregressive_network


class Model(nn.Module):
    def __init__(
        self, data_shape: tuple[int, ...], latent_dim: int = 20, decoder_hidden: int = 800, window: int | None = None
    ) -> None:
        super().__init__()
        self.data_shape, self.latent_dim = data_shape, latent_dim
        self.decoder = autoregressive_network(data_shape, latent_dim, decoder_hidden, window)

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line."""
        return AutoregressiveBernoulli(self.decoder, z, self.data_shape)

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
