"""Two levels of latents: p(z2) p(z1|z2) p(x|z1, z2), after the deep latent Gaussian model of Rezende et al. (2014).

z2 ~ N(0, I), z1 | z2 ~ N(μ(z2), diag σ(z2)²), x_i | z1, z2 ~ Bernoulli. For `guides/bottom_up.py`, `guides/ladder.py`.
"""

from math import prod

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.blocks import DiagonalNormal, mlp


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, top_dim: int = 10, hidden: int = 400) -> None:
        super().__init__()
        self.data_shape, self.top_dim = data_shape, top_dim
        self.family = DiagonalNormal(latent_dim)
        self.top_decoder = mlp(top_dim, hidden, self.family.width)
        self.decoder = mlp(latent_dim + top_dim, hidden, prod(data_shape))

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z2): swap this line."""
        return dist.Normal(x.new_zeros(self.top_dim), 1.0).to_event(1)

    def lower_prior(self, z2: Tensor) -> dist.Distribution:
        """p(z1|z2): swap this line."""
        return self.family(self.top_decoder(z2))

    def likelihood(self, z1: Tensor, z2: Tensor) -> dist.Distribution:
        """p(x|z1, z2): swap these lines."""
        logits = self.decoder(torch.cat([z1, z2], dim=-1)).unflatten(-1, self.data_shape)
        return dist.Bernoulli(logits=logits).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z2 = pyro.sample("z2", self.prior(x))
            z1 = pyro.sample("z1", self.lower_prior(z2))
            pyro.sample("x", self.likelihood(z1, z2), obs=x)
