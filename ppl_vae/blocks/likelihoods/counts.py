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


class Poisson(Counts):
    """P(x) = e^{−μ} μˣ/x!, μ = unit · softplus(raw), x in {0, 1, ...}."""

    name = "poisson"

    def distribution(self, raw: Tensor) -> dist.Distribution:
        return gammas.Poisson(self.rate(raw))


class NegativeBinomial(Counts):
    """A Poisson whose rate is Gamma-distributed: mean μ = unit · softplus(raw), variance μ + μ²/θ, θ learned.

    θ stops at 10⁴, where the variance is almost the Poisson's.
    """

    name = "negative_binomial"

    def __init__(self, data_shape: tuple[int, ...], data: Tensor | None = None, params: int = 1) -> None:
        super().__init__(data_shape, data, params)
        self.log_theta = nn.Parameter(torch.zeros(data_shape))

    def theta_logits(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """θ, and the log-odds log μ/θ that torch's parametrization asks for."""
        log_θ = self.log_theta.clamp(-10, math.log(1e4))
        return log_θ.exp(), self.rate(raw).log() - log_θ

    def distribution(self, raw: Tensor) -> dist.Distribution:
        θ, logits = self.theta_logits(raw)
        return gammas.NegativeBinomial(θ, logits=logits)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """With probability π = sigmoid(raw₂) a zero, else a negative binomial. Lopez et al. (2018), for gene counts."""

    name = "zero_inflated_negative_binomial"

    def __init__(self, data_shape: tuple[int, ...], data: Tensor | None = None) -> None:
        super().__init__(data_shape, data, params=2)

    def distribution(self, raw: Tensor) -> dist.Distribution:
        θ, logits = self.theta_logits(raw)
        return gammas.ZeroInflatedNegativeBinomial(θ, logits=logits, gate_logits=raw[1])
