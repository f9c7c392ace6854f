"""Normal families of q(z|x) whose rate can't vanish, so that the posterior can't collapse onto N(0, I)."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from ppl_vae.blocks.families.base import positive
from ppl_vae.core.errors import InputError

TINY = 1e-12  # under the square root, whose slope is infinite at 0


class DeltaNormal(nn.Module):
    """N(μ, diag σ²) with a rate of at least δ nats in each dimension: KL(N(μ_d, σ_d²) ‖ N(0, 1)) ≥ δ, whatever x is.

    The rate is ½ (μ² + σ² − 1 − ln σ²). So σ = σ_l + (σ_u − σ_l) sigmoid(s), where σ_l < 1 < σ_u are the two σ at which
    it is δ for μ = 0; and |μ| = √(2δ + 1 + ln σ² − σ²) + |m|, with the sign of the raw output m. The
    rate is δ at m = 0.
    The prior has to be N(0, I): another one can follow q(z|x).

    Args:
        rate: δ, in nats per dimension.

    Raises:
        InputError: δ is not a finite number above 0.

    Source: Razavi, van den Oord, Poole & Vinyals 2019, who bound μ on one side only.
    """

    name = "delta_normal"

    def __init__(self, dim: int, rate: float = 0.1) -> None:
        super().__init__()
        if not 0 < rate < math.inf:
            raise InputError(f"delta_normal: rate is {rate}: it must be a finite number above 0, in nats per dimension")
        self.width, self.rate = 2 * dim, rate
        self.low, self.high = narrowest_and_widest(rate)

    def forward(self, raw: Tensor) -> dist.Distribution:
        m, s = raw.chunk(2, dim=-1)
        σ = self.low + (self.high - self.low) * s.sigmoid()
        least = (2 * self.rate + 1 + 2 * σ.log() - σ.square()).clamp(min=TINY).sqrt()
        return dist.Normal(m + torch.where(m < 0, -least, least), σ).to_event(1)


def narrowest_and_widest(rate: float) -> tuple[float, float]:
    """The σ below 1 and the σ above 1 at which KL(N(0, σ²) ‖ N(0, 1)) = ½ (σ² − 1 − ln σ²) is `rate`, by bisection."""
    found = []
    for inside, outside in ((1.0, math.exp(-rate - 0.5)), (1.0, math.sqrt(4 * rate + 4))):
        for _ in range(100):
            σ = (inside + outside) / 2
            if (σ * σ - 1) / 2 - math.log(σ) < rate:
                inside = σ
            else:
                outside = σ
        found.append(inside)
    return found[0], found[1]


class BatchNormNormal(nn.Module):
    """N(μ, diag σ²), μ = γ (m − mean)/√variance + β: a batch normalization of the raw output m, with a fixed scale γ.

    Over the data, μ_d has mean β_d and variance γ². As the rate is at least ½ μ², the mean rate of a dimension is at
    least ½ (γ² + β_d²) nats, as long as the variance of m is far above 1e-5, which is added to it. β is learned.

    Mean and variance are those of the batch in training, over all leading dimensions. In evaluation, and for a batch of
    one row, they are running ones, so that each row stands for itself. In training the rows of a batch depend on each
    other, of which `check` warns. The prior has to be N(0, I): another one can follow q(z|x), and one that is made of
    the guide's posteriors would mix pseudo-inputs into the statistics.

    Args:
        gamma: γ.

    Raises:
        InputError: γ is not a finite number above 0.

    Source: Zhu, Bi, Liu, Ma, Li & Wu 2020; Ioffe & Szegedy 2015.
    """

    name = "batch_norm_normal"

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, dim: int, gamma: float = 0.5) -> None:
        super().__init__()
        if not 0 < gamma < math.inf:
            raise InputError(f"batch_norm_normal: gamma is {gamma}: it must be a finite number above 0")
        self.width, self.gamma = 2 * dim, gamma
        self.shift = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_variance", torch.ones(dim))

    def forward(self, raw: Tensor) -> dist.Distribution:
        m, s = raw.chunk(2, dim=-1)
        rows = m.reshape(-1, m.shape[-1])
        of_batch = self.training and bool(rows.shape[0] > 1)
        μ = batch_norm(rows, self.running_mean, self.running_variance, training=of_batch)
        return dist.Normal(self.gamma * μ.reshape(m.shape) + self.shift, positive(s)).to_event(1)
