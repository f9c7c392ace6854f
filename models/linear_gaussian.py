"""Probabilistic PCA (Tipping & Bishop 1999): z ~ N(0, I), x | z ~ N(Wz + b, σ²I). Everything about it is exact.

log p(x) = log N(x; b, WWᵀ + σ²I), and p(z|x) is the Gaussian of `guides/linear_gaussian.py`.
σ is one for all columns: fit columns of different units with `--standardize`.
"""

from math import prod

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.blocks import Standardized


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, data: Tensor | None = None) -> None:
        super().__init__()
        self.data_shape, self.latent_dim = data_shape, latent_dim
        self.W = nn.Parameter(torch.randn(prod(data_shape), latent_dim) / latent_dim**0.5)
        self.b = nn.Parameter(torch.zeros(prod(data_shape)))
        self.log_sigma = nn.Parameter(torch.zeros(()))
        self._start_from(Standardized(data_shape, data))

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line."""
        mean = (z @ self.W.T + self.b).unflatten(-1, self.data_shape)
        return dist.Normal(mean, self.log_sigma.exp()).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)

    @torch.no_grad()
    def _start_from(self, scale: Standardized) -> None:
        """At the center of the data, and of their size."""
        self.W.mul_(scale.spread.flatten().unsqueeze(-1))
        self.b.copy_(scale.center.flatten())
        self.log_sigma.copy_(scale.spread.square().mean().sqrt().log())

    def log_px(self, x: Tensor) -> Tensor:
        """The exact log p(x) of each row, `(B,)`: low-rank algebra, no D×D matrix."""
        variance = (2 * self.log_sigma).exp().expand(len(self.b))
        marginal = dist.LowRankMultivariateNormal(self.b, self.W, variance)
        return marginal.log_prob(x.flatten(x.dim() - len(self.data_shape)))
