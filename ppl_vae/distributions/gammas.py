"""Distributions whose log density is a difference of log Γ, computed without the rounding errors of float32.

log Γ(a) is about a log a: for a = 10⁵ float32 gives it with an error of 0.1, in each cell of a datum. So the terms are
evaluated and added in float64, and the sum is returned in the dtype of the parameters.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class Poisson(dist.Poisson):
    """P(x) = e^{−μ} μˣ/x!"""

    def log_prob(self, value: Tensor) -> Tensor:
        x, μ = _doubles(self, value, self.rate)
        return (torch.xlogy(x, μ) - μ - (x + 1).lgamma()).to(torch.result_type(self.rate, value))


class Binomial(dist.Binomial):
    """P(x) = (n over x) pˣ (1 − p)ⁿ⁻ˣ."""

    def log_prob(self, value: Tensor) -> Tensor:
        x, n, logits = _doubles(self, value, self.total_count, self.logits)
        log_choose = (n + 1).lgamma() - (x + 1).lgamma() - (n - x + 1).lgamma()
        log_p = log_choose + x * logsigmoid(logits) + (n - x) * logsigmoid(-logits)
        return log_p.to(torch.result_type(self.logits, value))


class NegativeBinomial(dist.NegativeBinomial):
    """P(x) = Γ(θ + x)/(Γ(θ) x!) (1 − p)^θ pˣ, where θ is the `total_count`."""

    def log_prob(self, value: Tensor) -> Tensor:
        x, θ, logits = _doubles(self, value, self.total_count, self.logits)
        log_choose = (θ + x).lgamma() - θ.lgamma() - (x + 1).lgamma()
        log_p = log_choose + θ * logsigmoid(-logits) + x * logsigmoid(logits)
        return log_p.to(torch.result_type(self.logits, value))


class ZeroInflatedNegativeBinomial(dist.ZeroInflatedNegativeBinomial):
    """A zero with probability `gate`, else a draw of a negative binomial.

    Pyro's `expand` fails after the distribution has been sampled, since it then has both `gate` and `gate_logits`. Here
    `gate` is computed each time.
    """

    def __init__(self, total_count: Tensor, *, logits: Tensor, gate_logits: Tensor, validate_args: Any = None) -> None:
        super().__init__(total_count, logits=logits, gate_logits=gate_logits, validate_args=validate_args)
        self.base_dist = NegativeBinomial(total_count, logits=logits, validate_args=validate_args).expand(
            self.batch_shape
        )

    @property
    def gate(self) -> Tensor:
        return torch.sigmoid(self.gate_logits)


class StudentT(dist.StudentT):
    """p(x) = e^{c(ν)} (1 + y²/ν)^{−(ν+1)/2} / (σ √2π), y = (x − μ)/σ. As ν → ∞, c(ν) → 0, and p tends to the normal.

    c(ν) = log Γ(½(ν + 1)) − log Γ(½ν) − ½ log ½ν. For z = ν/2 above 25 its asymptotic series is used,

        c = −1/(8z) + 1/(192 z³) − 1/(640 z⁵) + 17/(14336 z⁷) − …,

    so that ν can be arbitrarily large.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        y = (value - self.loc) / self.scale
        tail = (self.df + 1) / 2 * (y.square() / self.df).log1p()
        return _log_gamma_ratio(self.df / 2) - tail - self.scale.log() - 0.5 * LOG_2π


LOG_2π = 1.8378770664093453


def _log_gamma_ratio(z: Tensor) -> Tensor:
    """log Γ(z + ½) − log Γ(z) − ½ log z."""
    small, large = z.double().clamp(max=25), z.clamp(min=25)
    r = large.square().reciprocal()
    series = (-1 / 8 + r * (1 / 192 + r * (-1 / 640 + r * (17 / 14336)))) / large
    return torch.where(z < 25, ((small + 0.5).lgamma() - small.lgamma() - small.log() / 2).to(z.dtype), series)


def _doubles(d: Any, value: Tensor, *parameters: Tensor) -> list[Tensor]:
    if d._validate_args:
        d._validate_sample(value)
    return [t.double() for t in (value, *parameters)]
