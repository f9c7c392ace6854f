"""A VAE whose prior is a normalizing flow: z is N(0, I) noise sent through learned invertible layers.

log p(z) = log N(f(z); 0, I) + log |det ∂f/∂z|. Chen et al. (2017) show that an autoregressive prior does for z what an
inverse autoregressive guide does for q(z|x). `coupling` layers are those of Dinh et al. (2017).
"""

from math import prod
from typing import Literal

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import FlowPrior, mlp


class Model(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 20,
        hidden: int = 400,
        flow: Literal["coupling", "autoregressive"] = "coupling",
        layers: int = 4,
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.p_z = FlowPrior(latent_dim, flow, layers)
        self.decoder = mlp(latent_dim, hidden, prod(data_shape))

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return self.p_z()

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line."""
        return dist.Bernoulli(logits=self.decoder(z).unflatten(-1, self.data_shape)).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
