"""A guide on the unit sphere: q(z|x) ∝ (1 + μ(x)ᵀz)^κ(x), ‖z‖ = 1, the power spherical of De Cao & Aziz (2020).

For `models/spherical.py`. It is drawn without rejection, and its KL from the uniform prior has a closed form.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from ppl_vae.blocks import PowerSpherical, Standardized, mlp


class Guide(nn.Module):
    def __init__(
        self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400, data: Tensor | None = None
    ) -> None:
        super().__init__()
        self.data_shape, self.latent_dim = data_shape, latent_dim
        self.scale = Standardized(data_shape, data)
        self.encoder = mlp(prod(data_shape), hidden, latent_dim + 1)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): swap these lines. κ is in units of d, for the pull of a given κ fades as d grows."""
        raw = self.encoder(self.scale(x).flatten(x.dim() - len(self.data_shape)))
        concentration = self.latent_dim * softplus(raw[..., 0]) + 1e-6
        return PowerSpherical(normalize(raw[..., 1:], dim=-1), concentration)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x))
