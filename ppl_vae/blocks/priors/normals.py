"""Normal priors."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn


class StandardNormal(nn.Module):
    """p(z) = N(z; 0, I). Kingma & Welling (2014)."""

    name = "standard_normal"

    zero: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)

    def forward(self) -> dist.Distribution:
        return dist.Normal(self.zero, 1.0).to_event(1)


class DiagonalNormal(nn.Module):
    """p(z) = N(z; μ, diag σ²), μ and σ learned; it starts as N(0, I)."""

    name = "diagonal_normal"

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(latent_dim)), nn.Parameter(torch.zeros(latent_dim))

    def forward(self) -> dist.Distribution:
        return dist.Normal(self.loc, self.log_scale.exp()).to_event(1)
