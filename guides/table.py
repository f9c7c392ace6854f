"""q(z|x) for tables with missing cells: the network sees zeros for them, and which they are.

The family is N(μ(x), diag σ(x)²), or another one by `--set family=full_normal`.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import Part, TableFeatures, families, networks, space_of


class Guide(nn.Module):
    """`kinds` is the model's: a bare `--set kinds=...` sets both."""

    def __init__(
        self,
        data_shape: tuple[int, ...],
        data: Tensor,
        kinds: str = "real",
        latent_dim: int = 10,
        hidden: int = 100,
        family: Part = "diagonal_normal",
        network: Part = "mlp",
    ) -> None:
        super().__init__()
        self.features = TableFeatures(data_shape, kinds, data)
        self.family = families.build(family, latent_dim)
        self.encoder = networks.build(network, self.features.size, self.family.width, hidden)
        self.space = space_of(self.family)
        self.infer = {"enumerate": "parallel"} if self.space == "classes" else None

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): the family at what the network makes of x."""
        return self.family(self.encoder(self.features(x)))

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x), infer=self.infer)
