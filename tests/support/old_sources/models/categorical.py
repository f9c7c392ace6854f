"""A discrete latent: z ~ Categorical(π), x_i | z ~ Bernoulli(sigmoid(θ_zi)), a mixture of Bernoullis with a guide.

log p(x) = log Σ_k π_k p(x|z = k) is exact, and with `guides/categorical.py` so is the sum over z in the bound.
"""

from math import prod

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn


class Model(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], classes: int = 10, data: Tensor | None = None) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.weights = nn.Parameter(torch.zeros(classes))
        self.decoder = nn.Embedding(classes, prod(data_shape))
        if data is not None:  # every class starts near the mean of the data
            self.decoder.weight.data += data.flatten(1).mean(0).logit(eps=0.01)

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(z): swap this line."""
        return dist.Categorical(logits=self.weights)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """p(x|z): swap this line. Under enumeration z holds every class, in a dimension of its own on the left."""
        return dist.Bernoulli(logits=self.decoder(z).unflatten(-1, self.data_shape)).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)

    def log_px(self, x: Tensor) -> Tensor:
        """The exact log p(x) of each row, `(B,)`."""
        every = torch.arange(len(self.weights), device=x.device)
        return (self.prior(x).log_prob(every) + self.likelihood(every).log_prob(x.unsqueeze(1))).logsumexp(-1)
