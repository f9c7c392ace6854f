"""The guide of Kingma & Welling (2014): q(z|x) = N(μ(x), diag σ(x)²), μ and σ from one network."""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.blocks import MIN_SIGMA, Standardized, mlp


class Guide(nn.Module):
    def __init__(
        self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400, data: Tensor | None = None
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.scale = Standardized(data_shape, data)
        self.encoder = mlp(prod(data_shape), hidden, 2 * latent_dim)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): swap these lines."""
        loc, raw = self.encoder(self.scale(x).flatten(x.dim() - len(self.data_shape))).chunk(2, dim=-1)
        return dist.Normal(loc, softplus(raw) + MIN_SIGMA).to_event(1)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x))
