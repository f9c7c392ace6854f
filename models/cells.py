"""Counts of genes in a cell: z ~ N(0, I), x_g | z, l, s ~ NegativeBinomial(l · softmax(f(z, s))_g, θ_g).

What is drawn is which share of a cell's l counts each gene has. The library size l is given, as in Lopez et al. (2018)
where it is observed, and so is the batch s, if there are several: z has only to say what they do not. The fields are
x, l and s, a label from 0 to `batches` − 1. For `guides/cells.py`.

`--set likelihood=zero_inflated_negative_binomial` or `poisson` is another distribution with the same mean.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import Part, as_features, concat, likelihoods, mlp


class Model(nn.Module):
    """`batches`: how many there are; 0 where none is given."""

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 10,
        hidden: int = 128,
        batches: int = 0,
        likelihood: Part = "negative_binomial",
    ) -> None:
        super().__init__()
        self.latent_dim, self.batches = latent_dim, batches
        self.p_x = likelihoods.build(likelihood, data_shape)
        self.decoder = mlp(latent_dim + batches, hidden, self.p_x.size)

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Tensor, library: Tensor, batch: Tensor | None) -> dist.Distribution:
        """p(x|z, l, s): swap these lines."""
        if batch is not None:
            z = concat(z, as_features(batch, self.batches, like=z, name="batch", setting="batches"))
        share, *more = self.decoder(z).unflatten(-1, (self.p_x.params, -1)).unbind(-2)
        log_mean = library.log().unsqueeze(-1) + share.log_softmax(-1)
        return self.p_x.of_mean(log_mean, *more).to_event(1)

    def forward(self, x: Tensor, library: Tensor, batch: Tensor | None = None) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z, library, batch), obs=x)
