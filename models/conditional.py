"""A conditional VAE: z ~ N(0, I), x | z, y ~ p(x|z, y), given a label or covariates y (Sohn, Lee & Yan 2015).

As y is given, z has only to say what y does not. y is the second field of the data: integer labels (one of `y_dim`
classes) or `y_dim` real covariates. For `guides/conditional.py`. The likelihood is Bernoulli, or another by
`--set likelihood=gaussian`; a table with `fit --label COLUMN` gets `likelihood=table`, and y is the column.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import Part, Standardized, as_features, concat, likelihoods, mlp


class Model(nn.Module):
    """`y_standardized`: the network sees covariates in units of their spread, else as they are."""

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 20,
        hidden: int = 400,
        y_dim: int = 10,
        y_standardized: bool = False,
        likelihood: Part = "bernoulli",
        data: Tensor | None = None,
        example: tuple[Tensor, ...] = (),
    ) -> None:
        super().__init__()
        self.data_shape, self.latent_dim, self.y_dim = data_shape, latent_dim, y_dim
        self.p_x = likelihoods.build(likelihood, data_shape, data=data)
        self.y_scale = Standardized(example[1].shape[1:], example[1], always=True) if y_standardized else nn.Identity()
        self.decoder = mlp(latent_dim + y_dim, hidden, self.p_x.size)

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor, y: Tensor) -> dist.Distribution:
        """p(x|z, y): the likelihood at what the network makes of both."""
        return self.p_x(self.decoder(concat(z, as_features(self.y_scale(y), self.y_dim, like=z))))

    def forward(self, x: Tensor, y: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z, y), obs=x)
