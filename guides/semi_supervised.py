"""The guide of M2: q(y|x) = Categorical(softmax(f(x))) where y is not known, q(z|x, y) = N(μ(x, y), diag σ(x, y)²).

For `models/semi_supervised.py` (Kingma, Rezende, Mohamed & Welling 2014). y is the second field of the data, −1 where
it is not known. `--objective trace-enum` sums over those; then q(y|x) is a classifier, which `encode` applies to rows.
"""

from math import prod

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ppl_vae.blocks import DiagonalNormal, concat, mlp


class Guide(nn.Module):
    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 20, hidden: int = 400, classes: int = 10) -> None:
        super().__init__()
        self.data_shape, self.classes = data_shape, classes
        self.family = DiagonalNormal(latent_dim)
        self.classifier = mlp(prod(data_shape), hidden, classes)
        self.encoder = mlp(prod(data_shape) + classes, hidden, self.family.width)

    def class_posterior(self, x: Tensor) -> dist.Distribution:
        """q(y|x): swap this line."""
        return dist.Categorical(logits=self.classifier(x))

    def posterior(self, x: Tensor, y: Tensor) -> dist.Distribution:
        """q(z|x, y): swap this line."""
        return self.family(self.encoder(concat(x, one_hot(y, self.classes).to(x.dtype))))

    def forward(self, x: Tensor, y: Tensor) -> None:
        pyro.module("guide", self)
        x = x.flatten(x.dim() - len(self.data_shape))
        with pyro.plate("data", x.shape[0]):
            with poutine.mask(mask=y < 0):
                drawn = pyro.sample("y_unobserved", self.class_posterior(x))
            y = torch.where(y < 0, drawn, y)
            pyro.sample("z", self.posterior(x, y))
