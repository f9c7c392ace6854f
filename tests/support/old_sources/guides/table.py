"""q(z|x) = N(μ(x), diag σ(x)²) for tables with missing cells: the network sees zeros for them, and which they are."""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.blocks import MIN_SIGMA, TableFeatures, mlp


class Guide(nn.Module):
    """`kinds` is the model's: a bare `--set kinds=...` sets both."""

    def __init__(
        self, data_shape: tuple[int, ...], data: Tensor, kinds: str = "real", latent_dim: int = 10, hidden: int = 100
    ) -> None:
        super().__init__()
        self.features = TableFeatures(data_shape, kinds, data)
        self.encoder = mlp(self.features.size, hidden, 2 * latent_dim)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): swap these lines."""
        loc, raw = self.encoder(self.features(x)).chunk(2, dim=-1)
        return dist.Normal(loc, softplus(raw) + MIN_SIGMA).to_event(1)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x))
