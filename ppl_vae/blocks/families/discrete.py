"""Families of q(z|x) for a latent that is a class, or near one."""

import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.distributions.relaxed import ExpRelaxedCategorical


class Categorical(nn.Module):
    """z ~ Categorical(softmax(raw)), one of `dim` classes; to be summed over, or drawn by the score function."""

    name = "categorical"
    space = "classes"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width = dim

    def forward(self, raw: Tensor) -> dist.Distribution:
        return dist.Categorical(logits=raw)


class RelaxedCategorical(nn.Module):
    """log z = log softmax((raw + Gumbel noise)/τ), near a corner of the simplex. Jang et al. (2017).

    Logarithms are drawn, since the corners are out of reach of floating point.
    """

    name = "relaxed_categorical"
    space = "simplex"

    def __init__(self, dim: int, temperature: float = 0.5) -> None:
        super().__init__()
        self.width, self.temperature = dim, temperature

    def forward(self, raw: Tensor) -> dist.Distribution:
        return ExpRelaxedCategorical(raw.new_tensor(self.temperature), logits=raw)
