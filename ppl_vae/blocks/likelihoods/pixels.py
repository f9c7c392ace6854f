"""Likelihoods of pixel values on a grid: discretized logistics."""

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ppl_vae import distributions
from ppl_vae.blocks.likelihoods.base import Likelihood
from ppl_vae.blocks.likelihoods.real import LocationScale, Scale
from ppl_vae.core.errors import at_least


class DiscretizedLogistic(LocationScale):
    """A logistic variable of location μ = raw and scale σ, rounded to a grid of pixel values. Salimans et al. (2017).

    raw = 0 is the middle of the grid, raw = ±2 its ends.

    Args:
        levels: how many values there are, from `low` to `high`.
        low: the smallest, 0.
        high: the largest, 1; for integer pixels, `high=255`.
    """

    name = "discretized_logistic"

    def __init__(
        self,
        data_shape: tuple[int, ...],
        scale: Scale = "dimension",
        floor: float = 1e-3,
        levels: int = 256,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        at_least(2, levels=levels)
        super().__init__(data_shape, scale, floor)
        self.low, self.high, self.levels = low, high, levels
        self.center.fill_((low + high) / 2)
        self.spread.fill_((high - low) / 4)

    def distribution(self, raw: Tensor) -> dist.Distribution:
        loc, scale = self.location_scale(raw)
        return distributions.DiscretizedLogistic(loc, scale, self.low, self.high, self.levels)


class DiscretizedLogisticMixture(Likelihood):
    """P(x) = Σ_c π_c P_c(x), P_c discretized logistics, in each dimension by itself. Salimans et al. (2017).

    π, μ and σ all come from the network. At raw = 0 the locations are spread evenly over the grid.
    """

    name = "discretized_logistic_mixture"

    def __init__(
        self,
        data_shape: tuple[int, ...],
        components: int = 5,
        floor: float = 1e-3,
        levels: int = 256,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        at_least(2, levels=levels)
        at_least(1, components=components)
        super().__init__(data_shape, params=3 * components)
        self.components, self.floor = components, floor
        self.low, self.high, self.levels = low, high, levels

    def distribution(self, raw: Tensor) -> dist.Distribution:
        logits, loc, scale = raw.unflatten(0, (3, self.components)).movedim(1, -1)
        width = self.high - self.low
        places = torch.linspace(0, 1, self.components + 2, dtype=raw.dtype, device=raw.device)[1:-1]
        loc = self.low + width * (places + loc / 4)
        scale = width / 4 * (self.floor + softplus(scale))
        each = distributions.DiscretizedLogistic(loc, scale, self.low, self.high, self.levels)
        return distributions.Mixture(dist.Categorical(logits=logits), each)
