"""An inverse autoregressive flow: q(z|x) is a diagonal normal, warped by steps that depend on x (Kingma et al. 2016).

z_0 ~ N(μ(x), diag σ(x)²) and z_t = σ_t ⊙ z_{t−1} + (1 − σ_t) ⊙ m_t, where m_t and σ_t are autoregressive in z_{t−1}.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import InverseAutoregressiveFlow, Standardized, mlp


class Guide(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 20,
        hidden: int = 400,
        steps: int = 2,
        flow_hidden: int = 100,
        data: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.scale = Standardized(data_shape, data)
        self.family = InverseAutoregressiveFlow(latent_dim, steps, flow_hidden)
        self.encoder = mlp(prod(data_shape), hidden, self.family.width)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): the family at what the network makes of x."""
        return self.family(self.encoder(self.scale(x).flatten(x.dim() - len(self.data_shape))))

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x))
