"""A VAE for real-valued data: z ~ N(0, I), x | z ~ N(f(z), σ²I). At fixed σ its distortion is the squared error.

−log p(x|z) = ‖x − f(z)‖²/(2σ²) + D log σ + (D/2) log 2π, with every constant kept. Unless the data lie in [0, 1], f and
σ are in units of each column: x_d | z ~ N(c_d + s_d f_d(z), (s_d σ)²), c and s the training rows' mean and spread.
"""

from math import prod

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.blocks import Standardized, mlp

# σ never falls below this: where a datum is reproduced exactly, log p(x|z) has no upper bound.
# `likelihoods.Gaussian` of ppl_vae.blocks also warns when its floor binds, and can take σ from the network.
FLOOR = 1e-3


class Model(nn.Module):
    def __init__(
        self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400, data: Tensor | None = None
    ) -> None:
        super().__init__()
        self.data_shape, self.latent_dim = data_shape, latent_dim
        self.decoder = mlp(latent_dim, hidden, prod(data_shape))
        self.scale = Standardized(data_shape, data)
        spread = torch.ones(()) if data is None else self.scale(data).std(correction=0).clamp(min=FLOOR)
        # σ is shared and learned. Per dimension: nn.Parameter(spread.log().expand(data_shape).clone()).
        # Fixed at 0.1: self.register_buffer("log_sigma", torch.tensor(0.1).log()).
        self.log_sigma = nn.Parameter(spread.log())

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line."""
        mean = self.scale.inverse(self.decoder(z).unflatten(-1, self.data_shape))
        return dist.Normal(mean, self.scale.spread * (FLOOR + self.log_sigma.exp())).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
