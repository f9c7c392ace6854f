"""A conditional VAE: z ~ N(0, I), x_i | z, y ~ Bernoulli, given a label or covariates y (Sohn, Lee & Yan 2015).

As y is given, z has only to say what y does not. y is the second field of the data: integer labels (one of `y_dim`
classes) or `y_dim` real covariates. For `guides/conditional.py`.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import as_features, concat, mlp


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400, y_dim: int = 10) -> None:
        super().__init__()
        self.data_shape, self.latent_dim, self.y_dim = data_shape, latent_dim, y_dim
        self.decoder = mlp(latent_dim + y_dim, hidden, prod(data_shape))

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor, y: Tensor) -> dist.Distribution:
        """p(x|z, y): swap these lines."""
        logits = self.decoder(concat(z, as_features(y, self.y_dim, like=z))).unflatten(-1, self.data_shape)
        return dist.Bernoulli(logits=logits).to_event(len(self.data_shape))

    def forward(self, x: Tensor, y: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z, y), obs=x)
