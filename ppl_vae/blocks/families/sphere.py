"""Families of q(z|x) on the unit sphere."""

import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from ppl_vae.distributions import sphere


class PowerSpherical(nn.Module):
    """q(z|x) ∝ (1 + μᵀz)^κ, ‖z‖ = 1 in R^dim, κ = dim · softplus(s). De Cao & Aziz (2020).

    κ is in units of the dimension, for the pull of a given κ fades as it grows.
    """

    name = "power_spherical"
    space = "sphere"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.width = dim + 1

    def forward(self, raw: Tensor) -> dist.Distribution:
        concentration = self.dim * softplus(raw[..., 0]) + 1e-6
        return sphere.PowerSpherical(normalize(raw[..., 1:], dim=-1), concentration)
