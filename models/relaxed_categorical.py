"""`categorical.py` with a relaxed latent: z is a point of the simplex, near a corner (Maddison et al. 2017).

log z ~ ExpRelaxedCategorical(τ, π), x_i | z ~ Bernoulli(sigmoid(Σ_k z_k θ_ki)). The bound is one on log p(x) of *this*
model. It bounds nothing of the discrete one, so the numbers of the two are not to be compared.
"""

from math import prod

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.blocks import ExpRelaxedCategorical


class Model(nn.Module):
    def __init__(
        self, data_shape: tuple[int, ...], classes: int = 10, temperature: float = 0.5, data: Tensor | None = None
    ) -> None:
        super().__init__()
        self.data_shape, self.temperature = data_shape, temperature
        self.weights = nn.Parameter(torch.zeros(classes))
        self.decoder = nn.Linear(classes, prod(data_shape), bias=False)
        if data is not None:  # every class starts near the mean of the data
            self.decoder.weight.data += data.flatten(1).mean(0).logit(eps=0.01).unsqueeze(-1)

    def prior(self, x: Tensor) -> dist.Distribution:
        """p(log z): swap this line."""
        return ExpRelaxedCategorical(x.new_tensor(self.temperature), logits=self.weights)

    def likelihood(self, log_z: Tensor) -> dist.Distribution:
        """p(x|z): swap these lines."""
        logits = self.decoder(log_z.exp()).unflatten(-1, self.data_shape)
        return dist.Bernoulli(logits=logits).to_event(len(self.data_shape))

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", x.shape[0]):
            log_z = pyro.sample("log_z", self.prior(x))
            pyro.sample("x", self.likelihood(log_z), obs=x)
