"""Priors of a latent that is a class, or near one."""

import pyro.distributions as dist
import torch
from torch import nn

from ppl_vae.distributions.relaxed import ExpRelaxedCategorical


class Categorical(nn.Module):
    """p(z = k) = π_k, one of `latent_dim` classes, π learned; it starts uniform."""

    name = "categorical"
    space = "classes"

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(latent_dim))

    def forward(self) -> dist.Distribution:
        return dist.Categorical(logits=self.logits)


class RelaxedCategorical(nn.Module):
    """log z = log softmax((log π + Gumbel noise)/τ), near a corner, π learned. Maddison et al. (2017)."""

    name = "relaxed_categorical"
    space = "simplex"

    def __init__(self, latent_dim: int, temperature: float = 0.5) -> None:
        super().__init__()
        self.logits, self.temperature = nn.Parameter(torch.zeros(latent_dim)), temperature

    def forward(self) -> dist.Distribution:
        return ExpRelaxedCategorical(self.logits.new_tensor(self.temperature), logits=self.logits)
