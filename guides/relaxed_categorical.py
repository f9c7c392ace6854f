"""The Gumbel-softmax guide: log z = log softmax((f(x) + Gumbel noise)/τ), reparameterized (Jang et al. 2017).

For `models/relaxed_categorical.py`: the number that it yields bounds log p(x) of the relaxed model only. Logarithms
are drawn, since the corners of the simplex, where z lives, are out of reach of floating point.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import ExpRelaxedCategorical, Standardized, mlp


class Guide(nn.Module):
    def __init__(
        self,
        data_shape: tuple[int, ...],
        classes: int = 10,
        hidden: int = 400,
        temperature: float = 0.5,
        data: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.data_shape, self.temperature = data_shape, temperature
        self.scale = Standardized(data_shape, data)
        self.encoder = mlp(prod(data_shape), hidden, classes)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(log z|x): swap these lines."""
        logits = self.encoder(self.scale(x).flatten(x.dim() - len(self.data_shape)))
        return ExpRelaxedCategorical(x.new_tensor(self.temperature), logits=logits)

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("log_z", self.posterior(x))
