"""A discrete guide: q(z|x) = Categorical(softmax(f(x))).

Under Pyro's `TraceEnum_ELBO(max_plate_nesting=1)` the expectation over z is a sum over its classes, without noise.
Under `trace` z is drawn, and the gradient is that of the score function: without bias, but noisy.
"""

from math import prod

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.blocks import Standardized, mlp


class Guide(nn.Module):
    def __init__(
        self, data_shape: tuple[int, ...], classes: int = 10, hidden: int = 400, data: Tensor | None = None
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.scale = Standardized(data_shape, data)
        self.encoder = mlp(prod(data_shape), hidden, classes)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z|x): swap this line."""
        return dist.Categorical(logits=self.encoder(self.scale(x).flatten(x.dim() - len(self.data_shape))))

    def forward(self, x: Tensor) -> None:
        pyro.module("guide", self)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.posterior(x), infer={"enumerate": "parallel"})
