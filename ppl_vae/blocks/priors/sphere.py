"""Priors on the unit sphere."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.distributions.sphere import SphericalUniform


class Spherical(nn.Module):
    """p(z) = Γ(d/2) / (2 π^{d/2}) on the unit sphere ‖z‖ = 1 in R^d, d = `latent_dim`. Davidson et al. (2018)."""

    name = "sphere"
    space = "sphere"

    zero: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)

    def forward(self) -> dist.Distribution:
        return SphericalUniform(self.zero)
