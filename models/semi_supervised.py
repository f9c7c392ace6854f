"""A VAE with a class that is known for some rows: y ~ Categorical(π), z ~ N(0, I), x_i | y, z ~ Bernoulli.

This is M2 of Kingma, Rezende, Mohamed & Welling (2014). y is the second field of the data: 0, 1, … or −1 where it is
not known. There the guide draws it, and `--objective trace-enum` sums over its values. For `guides/semi_supervised.py`.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ppl_vae.blocks import concat, mlp


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400, classes: int = 10) -> None:
        super().__init__()
        self.data_shape, self.latent_dim, self.classes = data_shape, latent_dim, classes
        self.decoder = mlp(latent_dim + classes, hidden, prod(data_shape))

    def class_prior(self, x: Tensor) -> dist.Distribution:
        """p(y): swap this line."""
        return dist.Categorical(logits=x.new_zeros(self.classes))

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, y: Tensor, z: Tensor) -> dist.Distribution:
        """p(x|y, z): swap these lines."""
        logits = self.decoder(concat(z, one_hot(y, self.classes).to(z.dtype))).unflatten(-1, self.data_shape)
        return dist.Bernoulli(logits=logits).to_event(len(self.data_shape))

    def forward(self, x: Tensor, y: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            y = pyro.sample("y", self.class_prior(x), obs=y.clamp(min=0), obs_mask=y >= 0)
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(y, z), obs=x)
