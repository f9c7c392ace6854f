"""Likelihoods of counts."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.blocks.likelihoods.base import Likelihood, moments
from ppl_vae.distributions import gammas


class Binomial(Likelihood):
    """P(x) = (n over x) pˣ (1 − p)ⁿ⁻ˣ, p = sigmoid(raw), x in {0, ..., n}, n = `total`."""

    name = "binomial"

    def __init__(self, data_shape: tuple[int, ...], total: int) -> None:
        super().__init__(data_shape)
        self.total = total

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return gammas.Binomial(self.total, logits=raw[0])


class Counts(Likelihood):
    """The mean of a count: `unit` softplus(raw).

    Args:
        data: rows, `(N, *data_shape)`: their mean in each dimension becomes the unit, which is 1 without them.
    """

    unit: Tensor

    def __init__(self, data_shape: tuple[int, ...], data: Tensor | None = None, params: int = 1) -> None:
        super().__init__(data_shape, params)
        self.register_buffer("unit", torch.ones(data_shape) if data is None else moments(data)[0].clamp(min=1e-2))

    def rate(self, raw: Tensor) -> Tensor:
        return self.unit * softplus(raw[0]) + 1e-6

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return self.of_mean(self.rate(raw).log(), *raw[1:])

    def of_mean(self, log_mean: Tensor, *more: Tensor) -> dist.Distribution:
        """The distribution with a mean that the model itself computes, say a share of a total.

        Args:
            log_mean: log μ, `(..., *data_shape)`.
            more: the other numbers of each dimension, of the same shape: as many as `params` says, less one.
        """
        raise NotImplementedError


class Poisson(Counts):
    """P(x) = e^{−μ} μˣ/x!, μ = unit · softplus(raw), x in {0, 1, ...}."""

    name = "poisson"

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return gammas.Poisson(self.rate(raw))

    def of_mean(self, log_mean: Tensor, *more: Tensor) -> dist.Distribution:
        return gammas.Poisson(log_mean.clamp(min=-80).exp())  # above what float32 rounds to 0


class NegativeBinomial(Counts):
    """A Poisson whose rate is Gamma-distributed: mean μ = unit · softplus(raw), variance μ + μ²/θ, θ learned.

    θ stops at 10⁴, where the variance is almost the Poisson's.
    """

    name = "negative_binomial"

    def __init__(self, data_shape: tuple[int, ...], data: Tensor | None = None, params: int = 1) -> None:
        super().__init__(data_shape, data, params)
        self.log_theta = nn.Parameter(torch.zeros(data_shape))

    def theta_logits(self, log_mean: Tensor) -> tuple[Tensor, Tensor]:
        """θ, and the log-odds log μ/θ that torch's parametrization asks for."""
        log_θ = self.log_theta.clamp(-10, math.log(1e4))
        return log_θ.exp(), log_mean - log_θ

    def of_mean(self, log_mean: Tensor, *more: Tensor) -> dist.Distribution:
        θ, logits = self.theta_logits(log_mean)
        return gammas.NegativeBinomial(θ, logits=logits)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """With probability π = sigmoid(raw₂) a zero, else a negative binomial. Lopez et al. (2018), for gene counts."""

    name = "zero_inflated_negative_binomial"

    def __init__(self, data_shape: tuple[int, ...], data: Tensor | None = None) -> None:
        super().__init__(data_shape, data, params=2)

    def of_mean(self, log_mean: Tensor, *more: Tensor) -> dist.Distribution:
        θ, logits = self.theta_logits(log_mean)
        (gate,) = more
        return gammas.ZeroInflatedNegativeBinomial(θ, logits=logits, gate_logits=gate)
