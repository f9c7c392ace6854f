"""The VampPrior of Tomczak & Welling (2018): p(z) = (1/C) Σ_c q(z|u_c), a mixture of the guide's own posteriors.

The prior that suits a guide best is (1/N) Σ_n q(z|x_n); C learned pseudo-inputs u_c, which start as training rows,
stand for the N data. The guide is borrowed: its tensors are trained, saved and counted as its own.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import VampPrior, mlp


class Model(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        data: Tensor,
        guide: nn.Module,
        latent_dim: int = 20,
        hidden: int = 400,
        components: int = 100,
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.p_z = VampPrior(guide, data, components)
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
