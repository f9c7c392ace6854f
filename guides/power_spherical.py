"""A guide on the unit sphere: q(z|x) ∝ (1 + μ(x)ᵀz)^κ(x), ‖z‖ = 1, the power spherical of De Cao & Aziz (2020).

For `models/spherical.py`. It is drawn without rejection, and its KL from the uniform prior has a closed form.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from ppl_vae.blocks import PowerSpherical, mlp


class Guide(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.encoder = mlp(prod(data_shape), hidden, latent_dim + 1)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): swap these lines."""
        raw = self.encoder(x.flatten(x.dim() - len(self.data_shape)))
        return PowerSpherical(normalize(raw[..., 1:], dim=-1), softplus(raw[..., 0]) + 1e-6)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x))
