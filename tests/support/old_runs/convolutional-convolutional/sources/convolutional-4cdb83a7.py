"""The guide of `diagonal_normal.py` with a convolutional encoder, for images: q(z|x) = N(μ(x), diag σ(x)²)."""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import DiagonalNormal, conv_encoder


class Guide(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, channels: int = 32) -> None:
        super().__init__()
        self.family = DiagonalNormal(latent_dim)
        self.encoder = conv_encoder(data_shape, self.family.width, channels)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): swap this line."""
        return self.family(self.encoder(x))

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x))
